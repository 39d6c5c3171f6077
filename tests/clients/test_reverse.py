"""Clients that ignore proxy variables, governed by changing their base URL alone."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clients import HERE, curl, run
from gate import TARGET, Gate, clean_env
from origin import API, GREETING, Origin

REQUESTS = """
import sys, requests
url, token = sys.argv[1:]
answer = requests.post(url, data=b"\\0\\1", headers={"X-Api-Key": token}, timeout=30)
sys.stdout.buffer.write(answer.content)
sys.exit(answer.status_code != 201)
"""


def ask(client: str, gate: Gate, key: str, home: Path) -> tuple[int, Any]:
    """A refund by a client in an environment that knows nothing of the gate."""
    modules = {"NODE_PATH": str(TARGET / "node" / "node_modules")}
    command = ["node", HERE / "base-url.js", client, gate.named_door, key, "5"]
    told = json.loads(run(command, clean_env(home) | modules, b"").stdout)
    return told["status"], told["answer"]


@pytest.mark.parametrize("client", ["fetch", "stripe"])
def test_node_by_base_url_only(client: str, gate: Gate, origin: Origin, folder: Path) -> None:
    path = "/allowed/payments/refunds"
    reply = origin.reply(path, "application/json")
    reply.give(b'{"id": "re_1", "object": "refund"}')
    reply.end()
    before = len(origin.hits(path))
    status, answer = ask(client, gate, gate.token, folder)
    assert (status, answer["id"]) == (200, "re_1")
    [hit] = origin.hits(path)[before:]
    assert (hit.method, hit.body, hit.headers["host"]) == ("POST", b"amount=5", API)
    assert not any("writ_agt_" in value for value in hit.headers.values())


@pytest.mark.parametrize("client", ["fetch", "stripe"])
def test_node_is_refused_in_words(client: str, gate: Gate, folder: Path) -> None:
    status, answer = ask(client, gate, "writ_agt_wrong", folder)
    assert (status, answer["code"]) == (401, "credential_invalid")


def test_curl_by_base_url_only(gate: Gate, origin: Origin, own: str, folder: Path) -> None:
    url = f"{gate.shown('reverse door')}/api"
    token = ["--header", f"Writ-Agent-Token: {gate.token}"]
    env = clean_env(folder)
    for option in ["--http1.1", "--http2-prior-knowledge"]:
        allowed = curl(env, "POST", f"{url}/allowed/{own}", b"\0\1", option, *token)
        assert (allowed.status, allowed.body) == (201, GREETING + b"\0\1")
        assert curl(env, "DELETE", f"{url}/allowed/{own}", b"", option, *token).json()["code"] == "denied"
    assert [hit.headers["host"] for hit in origin.hits(f"/allowed/{own}")] == [API, API]
    held = curl(env, "POST", f"{url}/held/{own}", b"\0\2", *token)
    gate.approve(held.json()["intentId"])
    status = curl(env, "GET", f"{held.json()['statusUrl']}?wait=20", b"", *token)
    assert status.json()["status"] == "succeeded"
    assert [hit.body for hit in origin.hits(f"/held/{own}")] == [b"\0\2"]


def test_requests_by_base_url_only(gate: Gate, origin: Origin, own: str, folder: Path) -> None:
    url = f"{gate.shown('reverse door')}/api/allowed/{own}"
    done = run([sys.executable, "-c", REQUESTS, url, gate.token], clean_env(folder), b"")
    assert done.stdout == GREETING + b"\0\1"
    [hit] = origin.hits(f"/allowed/{own}")
    assert "x-api-key" not in hit.headers
