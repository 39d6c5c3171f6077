"""HTTP/1.1 and HTTP/2: each leg of the gate chooses for itself."""

import pytest

from clients import CLIENTS
from gate import Gate
from origin import API, API_HTTP2, GREETING, Origin

# Larger than the first window of an HTTP/2 stream and of its connection.
LARGE = bytes(range(256)) * 16_384

every_client = pytest.mark.parametrize(
    ("client", "version"), [("curl-http1.1", "1.1"), ("curl-http2", "2"), ("httpx", "1.1"), ("httpx-http2", "2")]
)
every_origin = pytest.mark.parametrize(("host", "upstream"), [(API, "1.1"), (API_HTTP2, "2")], ids=["to-1.1", "to-2"])


@every_client
@every_origin
def test_allowed(client: str, version: str, host: str, upstream: str, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/allowed/{own}?q=a%20b"
    answer = CLIENTS[client](gate.env, "POST", f"https://{host}{path}", LARGE)
    assert (answer.status, answer.version) == (201, version)
    assert answer.body == GREETING + LARGE
    [hit] = origin.hits(path)
    # A connection kept from an HTTP/1.1 client is used again, also where the upstream speaks both.
    assert hit.version in ("1.1", upstream)
    assert hit.body == LARGE


@every_origin
def test_held_then_approved(host: str, upstream: str, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/held/{own}"
    held = CLIENTS["curl-http2"](gate.env, "POST", f"https://{host}{path}", LARGE)
    assert (held.status, held.version, origin.hits(path)) == (202, "2", [])
    gate.approve(held.json()["intentId"])
    gate.settled(held.json()["intentId"])
    reply = CLIENTS["curl-http2"](gate.env, "GET", f"{held.json()['statusUrl']}/response", b"")
    assert (reply.status, reply.body) == (201, GREETING + LARGE)
    [hit] = origin.hits(path)
    assert (hit.version, hit.body) == (upstream, LARGE)
