"""The client helpers of `deploy/clients`: a held request waits and gives the API's own answer, a refusal is an error."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import httpx
import pytest
import requests

from gate import ROOT, TARGET, Gate
from origin import API, Origin

sys.path.insert(0, str(ROOT / "deploy" / "clients"))
import writ_client  # noqa: E402

NODE = f"""
import {{ writFetch }} from "{ROOT}/deploy/clients/writ-fetch.mjs";
const [url, body, patience] = process.argv.slice(1);
const fetch = writFetch({{ from: "{TARGET}/node/", patience: Number(patience) }});
try {{
  const answer = await fetch(url, {{ method: "POST", body }});
  console.log(JSON.stringify({{ status: answer.status, body: await answer.text() }}));
}} catch (error) {{
  console.log(JSON.stringify({{ error: error.name, message: error.message }}));
}}
process.exit(0);
"""


def with_httpx(url: str, body: str, patience: float) -> tuple[int, str]:
    with httpx.Client(transport=writ_client.Transport(patience=patience), timeout=5) as client:
        answer = client.post(url, content=body)
        return answer.status_code, answer.text


def with_httpx_async(url: str, body: str, patience: float) -> tuple[int, str]:
    async def send() -> tuple[int, str]:
        async with httpx.AsyncClient(transport=writ_client.AsyncTransport(patience=patience), timeout=5) as client:
            answer = await client.post(url, content=body)
            return answer.status_code, answer.text

    return asyncio.run(send())


def with_requests(url: str, body: str, patience: float) -> tuple[int, str]:
    with requests.Session() as session:
        session.mount("https://", writ_client.Adapter(patience=patience))
        answer = session.post(url, data=body, timeout=5)
        return answer.status_code, answer.text


def with_node(url: str, body: str, patience: float) -> tuple[int, str]:
    command = ["node", "--input-type=module", "--eval", NODE, "--", url, body, str(int(patience * 1000))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(done.stdout)
    if "error" in told:
        raise getattr(writ_client, told["error"])({"code": told["message"]})
    return told["status"], told["body"]


HELPERS: list[Callable[[str, str, float], tuple[int, str]]] = [with_httpx, with_httpx_async, with_requests, with_node]


@pytest.fixture(autouse=True)
def agents_shell(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in gate.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", os.environ["PATH"])


def decide(gate: Gate, path: str, *words: str) -> threading.Thread:
    """Decides on what will wait at this path, as a person somewhere else."""

    def work() -> None:
        end = time.monotonic() + 20
        while not (found := gate.pending(path)) and time.monotonic() < end:
            time.sleep(0.05)
        gate.writ(words[0], found[0]["id"], *words[1:])

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("send", HELPERS)
def test_a_held_request_gives_the_answer_of_the_api(send, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/held/{own}"
    person = decide(gate, path, "approve", "--rationale", "fine")
    status, _ = send(f"https://{API}{path}", "once", 30)
    person.join()
    assert status == 201
    assert [hit.body for hit in origin.hits(path)] == [b"once"]


@pytest.mark.parametrize("send", HELPERS)
def test_a_rejected_request_is_an_error_with_the_rationale(send, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/held/{own}"
    person = decide(gate, path, "deny", "--rationale", "not on a Friday")
    with pytest.raises(writ_client.Rejected, match="not on a Friday"):
        send(f"https://{API}{path}", "never", 30)
    person.join()
    assert origin.hits(path) == []


@pytest.mark.parametrize("send", HELPERS)
def test_what_policy_denies_is_an_error_with_the_remedy(send, origin: Origin, own: str) -> None:
    path = f"/nothing-allows-this/{own}"
    with pytest.raises(writ_client.Denied, match="destination"):
        send(f"https://{API}{path}", "never", 30)
    assert origin.hits(path) == []


@pytest.mark.parametrize("send", HELPERS)
def test_patience_ends_before_the_intent_does(send, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/held/{own}"
    with pytest.raises(writ_client.Undecided):
        send(f"https://{API}{path}", "later", 1)
    [waiting] = gate.pending(path)
    gate.writ("deny", waiting["id"], "--rationale", "done with it")
    assert origin.hits(path) == []


@pytest.mark.parametrize("send", HELPERS)
def test_a_cancelled_request_is_an_error(send, gate: Gate, origin: Origin, own: str) -> None:
    path = f"/held/{own}"

    def cancel() -> None:
        end = time.monotonic() + 20
        while not (found := gate.pending(path)) and time.monotonic() < end:
            time.sleep(0.05)
        url = f"http://writ.internal/v1/intents/{found[0]['id']}/cancel"
        subprocess.run(["curl", "--silent", "--fail", "--request", "POST", url], env=gate.env, check=True, timeout=30)

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(writ_client.Cancelled):
        send(f"https://{API}{path}", "never", 30)
    thread.join()
    assert origin.hits(path) == []
