"""Fuzz, guided by coverage, what reads files and requests of others: log and feature readers, saved folders, request bodies.

    pip install atheris
    python scripts/fuzz.py                       # every target, SECONDS each
    python scripts/fuzz.py log run --seconds 300

Whatever is entered must be read, or refused by an error that this package raises itself (ValueError, FileNotFoundError). Findings
are other errors, a process that ends, an input that takes longer than TIMEOUT, memory that grows by more than GROWTH_MB for one input, and files opened
or changed outside of the target's folder. Each is kept in FOLDER/TARGET as the input that made it, and the status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import linecache
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

TIMEOUT, GROWTH_MB, LONGEST = 30, 512, 4096  # seconds, MiB, bytes of an input
CLEAN = (ValueError, FileNotFoundError)
ROOT = Path(__file__).resolve().parent.parent
CHANGES = {"os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"}
NEVER = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect"}
WORDS = '"user" "item" "rating" "nan" "1e999" "-1" "null" "\\x00" "\\xff" "\\"" "[[" "{{" "&a" "*a" "!!python" "${" "../" "2024-01-02"'


class Watch:
    """What a target touches: an audit hook that notes files outside of a folder, processes and sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on, self.seen = str(folder), False, list[str]()
        libraries = {sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry)}
        self.readable = (self.folder, str(ROOT), *libraries, "/proc/", "/sys/", "/dev/", "/etc/", "/usr/share/zoneinfo")
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in NEVER:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in CHANGES:
            self._check(event, arguments[0], (self.folder,))
        elif event == "open":
            path, _, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            self._check("written" if writes else "read", path, (self.folder,) if writes else self.readable)

    def _check(self, what: str, path: Any, allowed: tuple[str, ...]) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            whole = os.path.realpath(os.fsdecode(path))
            if not any(whole.startswith(one) for one in allowed):
                self.seen.append(f"{what}: {whole}")


def is_ours(error: BaseException) -> bool:
    """Return whether an error was raised by a statement of this package, of a kind that its readers document."""
    if not isinstance(error, CLEAN):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    return f"{os.sep}recsys_dl{os.sep}" in last.filename + os.sep and line.startswith("raise")


def compiled() -> list[str]:
    """Return the modules that Numba compiles, which it cannot once they are instrumented."""
    files = [*(ROOT / "kernels").rglob("*.py"), *(ROOT / "recsys_dl" / "metrics").glob("*.py")]
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in files]
    return [".".join(one if one[0] == "recsys_dl" else ("recsys_dl", *one)) for one in parts]


def work(name: str, folder: Path, found: Path, flags: list[str]) -> None:
    """Enter inputs into one target until the time is over; findings are written as they are made."""
    import atheris

    with atheris.instrument_imports(include=["recsys_dl", "yaml"], exclude=compiled()):
        from fuzz_targets import TARGETS

    logging.disable(logging.CRITICAL)
    seeds, enter = TARGETS[name](folder)
    corpus = folder.with_name("corpus")
    corpus.mkdir()
    for at, seed in enumerate(seeds):
        (corpus / f"seed{at}").write_bytes(seed)
        with contextlib.suppress(*CLEAN):
            enter(seed)  # warm: imported and compiled before files are watched
    watch, kinds = Watch(folder), set[str]()

    def note(kind: str, data: bytes, more: str) -> None:
        if kind not in kinds:
            kinds.add(kind)
            key = hashlib.sha256(kind.encode()).hexdigest()[:12]
            (found / key).write_bytes(data)
            (found / f"{key}.txt").write_text(f"{kind}\n{more}")

    def once(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        caught: BaseException | None = None
        watch.on = True
        try:
            enter(data)
        except BaseException as error:
            caught = error
        watch.on = False
        if caught is not None and not is_ours(caught):
            last = traceback.extract_tb(caught.__traceback__)[-1]
            text = "".join(traceback.format_exception(caught))
            note(f"{type(caught).__name__} at {Path(last.filename).name}:{last.lineno}", data, text)
        if (grown := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) > GROWTH_MB << 10:
            note("memory", data, f"grew by {grown >> 10} MiB")
        for one in watch.seen:
            note(re.sub(r"\d+", "N", one), data, "")
        watch.seen.clear()

    atheris.Setup([sys.argv[0], *flags, str(corpus)], once)
    atheris.Fuzz()


def run(name: str, seconds: int, found: Path) -> int:
    """Fuzz one target, again after each end of its process; return the number of findings."""
    end, inputs = time.monotonic() + seconds, 0
    found.mkdir(parents=True, exist_ok=True)
    while (left := int(end - time.monotonic())) > 5:
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home, "target")
            folder.mkdir()
            (words := Path(home, "words")).write_text(WORDS.replace(" ", "\n") + "\n")
            flags = [f"-max_total_time={left}", f"-timeout={TIMEOUT}", f"-max_len={LONGEST}", "-rss_limit_mb=4096"]
            flags += [f"-artifact_prefix={found.resolve()}/", f"-dict={words}", "-print_final_stats=1"]
            command = [sys.executable, __file__, "--work", str(folder), "--folder", str(found), name, "--", *flags]
            try:
                done = subprocess.run(
                    command, cwd=home, capture_output=True, text=True, errors="replace", timeout=left + 120
                )
            except subprocess.TimeoutExpired as error:
                said = (error.stderr or b"").decode(errors="replace")
                (found / f"ended-{len(list(found.iterdir()))}.txt").write_text(
                    f"it did not end in time\n{said[-20_000:]}"
                )
                break
        stats = re.findall(r"stat::number_of_executed_units: (\d+)", done.stderr)
        inputs += int(stats[-1]) if stats else 0
        if done.returncode:
            (found / f"ended-{len(list(found.iterdir()))}.txt").write_text(done.stderr[-20_000:])
            if not stats and "cov:" not in done.stderr:
                break  # it did not begin
    kinds = [file.read_text().split("\n")[0] for file in sorted(found.glob("*.txt")) if "ended" not in file.name]
    ends = [f"ended: {file.name}" for file in sorted(found.glob("ended-*.txt"))]
    print(f"{name}: {inputs:,} inputs, {len(kinds) + len(ends)} findings", *kinds, *ends, sep="\n    ", flush=True)
    return len(kinds) + len(ends)


def main() -> int:
    """Run the targets that are named, or all."""
    own, flags = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, flags = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--folder", type=Path, default=Path("findings"))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(own)
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is missing: pip install atheris")
    if options.work:
        work(options.targets[0], options.work, options.folder.resolve(), flags)
        return 0
    from fuzz_targets import TARGETS

    if unknown := set(options.targets) - {*TARGETS}:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    shutil.rmtree(options.folder, ignore_errors=True)
    counts = [run(name, options.seconds, (options.folder / name).resolve()) for name in options.targets or TARGETS]
    return int(any(counts))


if __name__ == "__main__":
    raise SystemExit(main())
