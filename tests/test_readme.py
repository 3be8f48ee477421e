"""The README's own lines, run in its order in an empty folder with a ratings.csv and an items.csv."""

import re
import shlex
import signal
import urllib.request
from pathlib import Path

import numpy as np
from processes import command as run_command
from processes import program as run_program
from serving_process import start

ROOT = Path(__file__).parent.parent


def test_its_python_and_its_commands_run(tmp_path):
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    commands = [line.split("#")[0].strip() for line in re.findall(r"^    (recsys-dl .*)$", readme, re.MULTILINE)]
    run, further, loaded, neural = blocks
    verbs = {
        "train",
        "evaluate",
        "recommend",
        "compare",
        "refit",
        "index",
        "export",
        "report",
        "reproduce",
        "tune",
        "plan",
        "simulate",
        "serve",
        "monitor",
    }
    assert {command.split()[1] for command in commands} == verbs
    rng = np.random.default_rng(0)
    users = [196, 22, *range(500, 560)]
    rows = [
        f"{user},{item},{4 + item % 2},{1_400_000_000 + user * 100 + n}"
        for user in users
        for n, item in enumerate(rng.choice(np.arange(user % 2, 800, 2), 20, replace=False))
    ]
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n")
    kinds = "".join(
        f"{item},{['Drama', 'Comedy'][item % 2]}|{['War', 'Crime', 'Music'][item % 3]}\n" for item in range(800)
    )
    (tmp_path / "items.csv").write_text("movieId,genres\n" + kinds)
    assert "ndcg" in run_program(run + further + neural, cwd=tmp_path)
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "serve":  # it does not end
            served(tmp_path, *words[1:])
            continue
        run_command(*words, *(["trials=2"] if words[0] == "tune" else []), cwd=tmp_path)
    run_program(loaded, cwd=tmp_path)
    third = re.search(r"^    \.venv/bin/recsys-dl serve ([^#\n]*)", readme, re.MULTILINE)
    (tmp_path / "runs/demo").symlink_to("pipeline")  # as scripts/demo.sh does
    assert "runs/demo" in (ROOT / "scripts/demo.sh").read_text()
    assert "Stage by stage" in served(tmp_path, *shlex.split(third[1]))


def served(folder: Path, *words: str) -> str:
    """Return the page of a server, which is ended."""
    process, address = start(folder, *words)
    try:
        body, kind = b'{"user": 196}', {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(address + "/recommend", body, kind), timeout=30) as answer:
            assert b"items" in answer.read()  # which monitor reads
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
