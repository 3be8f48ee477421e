"""What a user installs: the built wheel holds kernels and configs, and its command runs in an environment of its own."""

import ast
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from recsys_dl.version import __version__

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def test_it_holds_what_the_checkout_holds(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ("kernels", "conf", "recsys_dl"):
        for file in (ROOT / room).rglob("*"):
            if file.suffix in (".py", ".yaml", ".html", ".css", ".js") and "__pycache__" not in file.parts:
                inside = file.relative_to(ROOT).as_posix()
                assert (inside if room == "recsys_dl" else f"recsys_dl/{inside}") in names
    assert "recsys_dl/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"recsys_dl", next(top for top in tops if top.endswith(".dist-info"))}


def test_its_metadata_are_those_of_pyproject(wheel):
    names = zipfile.ZipFile(wheel)
    inside = next(name.rpartition("/")[0] for name in names.namelist() if name.endswith("/METADATA"))
    told = message_from_bytes(names.read(f"{inside}/METADATA"))
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    assert told["Version"] == __version__
    assert told["License-Expression"] == project["license"]
    assert set(told.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert told["Requires-Python"] == project["requires-python"]
    assert f"recsys-dl = {project['scripts']['recsys-dl']}" in names.read(f"{inside}/entry_points.txt").decode()
    calls = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls] == ["setup()"]


def test_its_command_runs_in_an_environment_of_its_own(wheel, tmp_path):
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # The dependencies are this environment's (they are GBs); the package comes from the wheel alone.
    others = [p for p in sys.path if p.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(others) + "\n")
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    log = tmp_path / "log.csv"
    rows = [
        f"u{u},i{i},{1 + (u * i) % 5},{1_400_000_000 + u * 100 + i}" for u in range(40) for i in range(u % 5, 30, 2)
    ]
    log.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "NUMBA"))}

    def run(program: str, *words: str) -> str:
        done = subprocess.run(
            [home / "bin" / program, *words], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("python", "-c", "import recsys_dl; print(recsys_dl.__file__)").strip()
    assert Path(where).is_relative_to(site)
    out = run("recsys-dl", "train", "model=popularity", "data=log", f"data.path={log}", "run=run")
    assert "ndcg" in out
    assert (tmp_path / "run" / "model" / "config.yaml").is_file()


def test_locked_packages_install_on_the_first_release_of_this_python():
    """Not only on the one that runs this: Debian's 3.11 is 3.11.2."""
    first = f"{sys.version_info.major}.{sys.version_info.minor}.0"
    locked = {
        canonicalize_name(line.partition("==")[0])
        for line in (ROOT / "requirements" / "lock.txt").read_text().splitlines()
        if "==" in line
    }
    checked = 0
    for package in metadata.distributions():
        needs = package.metadata.get("Requires-Python")
        if needs and canonicalize_name(package.metadata["Name"]) in locked:
            assert SpecifierSet(needs).contains(first), (
                f"{package.metadata['Name']} {package.version} needs Python {needs}"
            )
            checked += 1
    assert checked > 50
