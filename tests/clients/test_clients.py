"""Every client, allowed, denied and held: what it is told, and what the origin saw."""

import os

import pytest

from clients import CLIENTS, Client
from gate import Gate
from origin import API, GREETING, Origin, upstream_status

# Larger than one TLS record and one read, and no text.
BINARY = os.urandom(300_000)

every_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
every_method = pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", BINARY)], ids=["get", "post"])


@every_client
@every_method
def test_allowed(client: Client, method: str, body: bytes, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/allowed/{own}?q=a%20b"
    answer = client(gate.env, method, f"https://{API}{path}", body)
    assert (answer.status, answer.body) == (upstream_status(method), GREETING + body)
    assert answer.headers["writ-decision"] == "allow"
    [hit] = origin.hits(path)
    assert (hit.method, hit.body) == (method, body)
    assert not any(name.startswith("proxy-") or "writ_agt_" in value for name, value in hit.headers.items())


@every_client
@every_method
def test_denied(client: Client, method: str, body: bytes, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/denied/{own}"
    answer = client(gate.env, method, f"https://{API}{path}", body)
    assert (answer.status, answer.headers["writ-decision"]) == (403, "deny")
    problem = answer.json()
    assert problem["code"] == "denied" and problem["detail"] and problem["remedy"]
    assert origin.hits(path) == []


@every_client
@every_method
def test_held_then_approved(client: Client, method: str, body: bytes, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/held/{own}"
    held = client(gate.env, method, f"https://{API}{path}", body)
    assert (held.status, held.headers["writ-decision"]) == (202, "hold")
    status_url = held.json()["statusUrl"]
    status = client(gate.env, "GET", status_url, b"")
    assert (status.status, status.json().get("status")) == (200, "pending_approval")
    assert origin.hits(path) == []

    gate.approve(held.json()["intentId"])
    assert client(gate.env, "GET", f"{status_url}?wait=20", b"").json()["status"] == "succeeded"
    for _ in range(2):
        reply = client(gate.env, "GET", f"{status_url}/response", b"")
        assert (reply.status, reply.body) == (upstream_status(method), GREETING + body)
    [hit] = origin.hits(path)
    assert (hit.method, hit.body) == (method, body)
