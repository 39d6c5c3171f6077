"""Programs under `writ run`: no variable set by hand, and no way out but the gate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients import HERE, script
from gate import WRIT, Gate
from origin import API, GREETING, Origin

PROGRAMS: dict[str, list[str | Path]] = {
    "aiohttp": [sys.executable, HERE / "send.py", "aiohttp"],
    "httpx": [sys.executable, HERE / "send.py", "httpx"],
    "requests": [sys.executable, HERE / "send.py", "requests"],
    "urllib": [sys.executable, HERE / "send.py", "urllib"],
    "node-axios": ["node", HERE / "send.js", "axios"],
    "node-undici": ["node", HERE / "send.js", "undici"],
}


@pytest.mark.parametrize("words", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_program_needs_nothing_but_the_word(words: list[str | Path], gate: Gate, origin: Origin, own: str) -> None:
    body = os.urandom(100_000)
    program = script(WRIT, "run", "--isolation", "required", "--", *words)
    answer = program(gate.operator, "POST", f"https://{API}/allowed/{own}", body)
    assert (answer.status, answer.body) == (201, GREETING + body)
    assert answer.headers["writ-decision"] == "allow"
    [hit] = origin.hits(f"/allowed/{own}")
    assert hit.body == body


def test_a_program_is_refused_and_held_like_any_other(gate: Gate, origin: Origin, own: str) -> None:
    program = script(WRIT, "run", "--", sys.executable, HERE / "send.py", "requests")
    assert program(gate.operator, "GET", f"https://{API}/denied/{own}", b"").json()["code"] == "denied"
    held = program(gate.operator, "POST", f"https://{API}/held/{own}", b"x").json()
    gate.approve(held["intentId"])
    gate.settled(held["intentId"])
    assert [hit.body for hit in origin.hits(f"/held/{own}")] == [b"x"]


def test_git_and_its_children_run_under_it(gate: Gate, tmp_path: Path) -> None:
    command = [WRIT, "run", "--", "git", "ls-remote", f"https://{API}/denied/x.git"]
    done = subprocess.run(command, env=gate.operator, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 and "403" in done.stderr, done.stderr
