"""Progress is drawn where a person watches, and nowhere else."""

import os
import pty
import subprocess
import sys

PROGRAM = """
from recsys_dl.progress import track, waiting
import time
print(sum(track(range(3), "steps")), end=" ")
with waiting("one long step"):
    time.sleep(0.3)
print("done")
"""


def test_silent_where_nobody_watches():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "3 done\n"
    assert done.stderr == ""


def test_drawn_on_a_terminal():
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=True,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.stdout == "3 done\n"
    assert "steps" in drawn
    assert "3/3" in drawn
    assert "one long step" in drawn
