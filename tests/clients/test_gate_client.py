"""The published client of Zehrava Gate against this gate: as it is, with an agent's token and with a reviewer's."""

import base64
import hashlib
import json
import urllib.request

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from zehrava_gate import Gate as Client
from zehrava_gate import GateError

from gate import Gate
from origin import Origin


@pytest.fixture
def agent(gate: Gate) -> Client:
    return Client(endpoint=gate.shown("forward door"), api_key=gate.token_in("agent-default.token"))


@pytest.fixture
def reviewer(gate: Gate) -> Client:
    token = json.loads(gate.writ("--json", "operators", "add", f"ann-{id(gate)}-{next(NUMBERS)}", "--role", "reviewer"))
    return Client(endpoint=gate.shown("operator door"), api_key=token["token"])


NUMBERS = iter(range(1_000_000))


def discover(client: Client) -> dict:
    with urllib.request.urlopen(f"{client.endpoint}/.well-known/gate", timeout=10) as answer:
        return json.load(answer)


def settled(client: Client, intent: str) -> str:
    url = f"{client.endpoint}/v1/intents/{intent}?wait=20"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {client.api_key}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["status"]


def test_propose_what_is_allowed_sends_it(agent: Client, origin: Origin, own: str) -> None:
    told = agent.propose(payload=own, destination="declared.allowed", policy="declared-allow", record_count=1)
    assert told["status"] == "approved", told
    assert settled(agent, told["intentId"]) == "succeeded"
    assert [hit.body for hit in origin.hits("/declared/allowed")].count(own.encode()) == 1
    shown = agent.verify(intent_id=told["intentId"])
    assert (shown["status"], shown["policy"], shown["upstreamStatus"]) == ("succeeded", "declared-allow", 201)


def test_propose_what_is_blocked_says_why(agent: Client, origin: Origin, own: str) -> None:
    told = agent.propose(payload=f"{own} forbidden words", destination="declared.allowed", policy="declared-allow")
    assert told["status"] == "blocked", told
    assert "blocked term" in told["blockReason"]
    # Naming another policy gets no milder one.
    told = agent.propose(payload=own, destination="declared.held", policy="declared-allow")
    assert told["status"] == "blocked", told
    for path in ["/declared/allowed", "/declared/held"]:
        assert not [hit for hit in origin.hits(path) if own.encode() in hit.body]


def test_a_reviewer_s_client_approves_and_rejects(agent: Client, reviewer: Client, origin: Origin, own: str) -> None:
    told = agent.propose(payload=own, destination="declared.held", policy="declared-hold")
    assert told["status"] == "pending_approval", told
    # Not the agent itself, at either door.
    for client in (agent, Client(endpoint=reviewer.endpoint, api_key=agent.api_key)):
        with pytest.raises(GateError) as refused:
            client.approve(intent_id=told["intentId"])
        assert refused.value.status in (401, 404)
    reviewer.approve(intent_id=told["intentId"])
    assert settled(agent, told["intentId"]) == "succeeded"
    assert [hit.body for hit in origin.hits("/declared/held")].count(own.encode()) == 1

    told = agent.propose(payload=f"{own} 2", destination="declared.held", policy="declared-hold")
    reviewer.reject(intent_id=told["intentId"], reason="not on a Friday")
    shown = agent.verify(intent_id=told["intentId"])
    assert (shown["status"], shown["reason"]) == ("rejected", "not on a Friday")


def test_a_key_proposes_once(agent: Client, own: str) -> None:
    def propose(payload: str) -> dict:
        return agent.propose(
            payload=payload, destination="declared.held", policy="declared-hold", idempotency_key=f"key-{own}"
        )

    first = propose("one")
    assert propose("one")["intentId"] == first["intentId"]
    with pytest.raises(GateError) as refused:
        propose("two")
    assert (refused.value.status, refused.value.body["code"]) == (409, "duplicate_blocked")


def test_execute_gives_an_order_that_anyone_can_check(agent: Client, own: str) -> None:
    told = agent.propose(payload=own, destination="declared.runner", policy="declared-allow")
    assert told["status"] == "approved", told
    order = agent.execute(intent_id=told["intentId"])
    assert (order["mode"], order["intent_id"]) == ("runner_exec", told["intentId"])
    [key] = discover(agent)["orderKeys"]["keys"]
    head, claims, signature = order["execution_token"].split(".")
    Ed25519PublicKey.from_public_bytes(unpadded(key["x"])).verify(unpadded(signature), f"{head}.{claims}".encode())
    claims = json.loads(unpadded(claims))
    assert claims["body_sha256"] == hashlib.sha256(own.encode()).hexdigest()
    assert (claims["intent_id"], claims["exp"] - claims["iat"]) == (told["intentId"], 900)
    with pytest.raises(GateError) as refused:
        agent.execute(intent_id=told["intentId"])
    assert refused.value.status == 409


def test_discover_names_every_page(agent: Client) -> None:
    gate = discover(agent)
    assert gate["service"] == "writ"
    for route in ["POST /v1/intents", "GET /v1/intents/{id}", "POST /v1/intents/{id}/execute"]:
        assert route in gate["routes"]


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
