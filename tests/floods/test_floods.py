"""Under each flood: bounded memory, a healthy client that hardly notices, and soon afterwards no trace of it.

What is measured is the gate: an optimised build, a flood that only gets the time that nobody else wants, and a healthy client
that comes before all, where this user may say so.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flood import FLOODS
from gate import Gate
from healthy import Healthy, p99

MEMORY = 512 << 20
SECONDS = 6
RECOVERY = 5
LEAST = 0.02
"""Seconds; below this the machine decides, which gives each program some milliseconds at a time."""

LONG = {"half_open_connects": 15, "names": 20, "slow_heads": 14}
"""Floods that need longer to be one."""

CUT_OFF = {
    "continuation",
    "empty_continuation",
    "empty_data",
    "hpack_bomb",
    "made_you_reset",
    "pings",
    "priorities",
    "rapid_reset",
    "settings",
    "table_updates",
    "unknown_frames",
    "window_updates",
}
"""What the gate must answer by ending the connection."""


@pytest.mark.parametrize("name", FLOODS)
def test_flood(name: str, gate: Gate, healthy: Healthy, quiet: float) -> None:
    idle = max(quiet, p99(healthy.measure(1)))
    seconds = LONG.get(name, SECONDS)
    agent = name.replace("_", "-")
    arguments = [name, str(gate.port), agent, gate.add_agent(agent), str(seconds)]
    with peak_memory(gate) as memory:
        flood = subprocess.Popen([sys.executable, Path(__file__).with_name("flood.py"), *arguments], stdout=subprocess.PIPE)
        time.sleep(1)
        during = p99(healthy.measure(seconds - 2))
        told, _ = flood.communicate(timeout=seconds + 20)
    start = time.monotonic()
    while p99(healthy.measure(0.5)) > max(3 * idle, LEAST):
        assert time.monotonic() - start < RECOVERY, "no recovery"
    back = time.monotonic() - start
    done = json.loads(told)
    print(f"\n{name}: idle p99 {idle * 1e3:.1f} ms, during {during * 1e3:.1f} ms, back after {back:.1f} s, "
          f"{memory[0] >> 20} MiB; {dict(done)}")
    assert memory[0] <= MEMORY
    assert during <= max(3 * idle, LEAST)
    assert done.get("connections", 0) > 0
    check(name, done, gate)


def check(name: str, done: dict[str, int], gate: Gate) -> None:
    """What one flood in particular must have met."""
    if name == "names":
        assert done["429"] > 0 and done["200"] <= 1200, "600 names a minute"
    if name == "refusals":
        deadline = time.monotonic() + RECOVERY
        while sum(counts := recorded(gate)) < done["400"]:
            assert time.monotonic() < deadline, f"{sum(counts)} of {done['400']} refusals are on the ledger"
        assert len(counts) < done["400"] / 10, f"{len(counts)} entries"
    if name in CUT_OFF:
        assert done.get("cut off", 0) + done.get("ended", 0) > 0, "the gate let it go on"


def recorded(gate: Gate) -> list[int]:
    """How many ambiguous requests each entry about them stands for."""
    about = [event["data"] for event in events(gate) if event["data"].get("code") == "ambiguous_request"]
    return [data.get("count", 1) for data in about if data["source"] == "127.0.0.1"]


def events(gate: Gate) -> list[dict]:
    days = sorted((gate.home / "data" / "events").glob("*.jsonl"))
    return [json.loads(line) for day in days for line in day.read_text().splitlines()]


@contextmanager
def peak_memory(gate: Gate) -> Iterator[list[int]]:
    """The largest resident size of the gate while this is open, in bytes."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        status = Path(f"/proc/{gate.pid}/status")
        while not ended.wait(0.1):
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            peak[0] = max(peak[0], int(line.split()[1]) << 10)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
