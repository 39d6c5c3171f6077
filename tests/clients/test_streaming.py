"""Replies that come in parts: each part at once, and no further than somebody reads."""

import subprocess
import time

import pytest

from gate import Gate
from origin import API, API_HTTP2, Origin, Reply

SECONDS = 30

SOON = 3
"""Seconds within which the gate has to notice that its client is gone."""

every_version = pytest.mark.parametrize("version", ["1.1", "2"], ids=["http1.1", "http2"])
every_host = pytest.mark.parametrize("host", [API, API_HTTP2], ids=["to-http1.1", "to-http2"])


@every_version
@every_host
def test_each_event_arrives_before_the_next_is_sent(
    version: str, host: str, gate: Gate, origin: Origin, own: str
) -> None:
    path = f"/allowed/{own}"
    reply = origin.reply(path, "text/event-stream")
    with curl(gate, version, f"https://{host}{path}") as client:
        for number in range(5):
            reply.give(b"data: %d\n\n" % number)
            assert (client.stdout.readline(), client.stdout.readline()) == (b"data: %d\n" % number, b"\n")
        assert gate.outcome(path) is None
        reply.end()
        assert client.stdout.read() == b""
    assert client.returncode == 0


@every_version
@every_host
def test_a_client_that_goes_away_ends_the_upstream_leg(
    version: str, host: str, gate: Gate, origin: Origin, own: str
) -> None:
    path = f"/allowed/{own}"
    reply = origin.reply(path)
    read_one_part_and_go(gate, version, f"https://{host}{path}", reply)
    deadline = time.monotonic() + SECONDS
    while not reply.gone.wait(0.05):
        assert time.monotonic() < deadline, "the origin still has its connection"
        reply.give(b"more\n")
    assert ending(gate, path) == (200, "client_gone")


@every_version
@every_host
def test_a_client_that_goes_away_ends_a_silent_upstream_leg(
    version: str, host: str, gate: Gate, origin: Origin, own: str
) -> None:
    path = f"/allowed/{own}"
    reply = origin.reply(path)
    read_one_part_and_go(gate, version, f"https://{host}{path}", reply)
    try:
        assert reply.gone.wait(SOON), "the origin still has its connection"
    finally:
        reply.end()
    assert ending(gate, path) == (200, "client_gone")


def read_one_part_and_go(gate: Gate, version: str, url: str, reply: Reply) -> None:
    with curl(gate, version, url) as client:
        reply.give(b"first\n")
        assert client.stdout.readline() == b"first\n"
        client.kill()


def ending(gate: Gate, path: str) -> tuple[int, str | None]:
    """The status of a reply and why it is not whole, when the ledger has both."""
    deadline = time.monotonic() + SECONDS
    while (outcome := gate.outcome(path)) is None:
        assert time.monotonic() < deadline, "the ledger has no outcome"
    return outcome["data"]["status"], outcome["data"].get("ended")


def curl(gate: Gate, version: str, url: str) -> subprocess.Popen[bytes]:
    """A client that shows each part as it comes."""
    command = ["curl", "--silent", "--no-buffer", f"--http{version}", "--max-time", str(SECONDS), url]
    return subprocess.Popen(command, env=gate.env, stdout=subprocess.PIPE)
