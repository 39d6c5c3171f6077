"""A vault that is slow, elsewhere, somebody else or out of order: each is told apart, and nothing is sent."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broken import SECRET, Broken
from certificates import Certificates, write_certificates
from conftest import Start
from gate import Gate, write
from origin import Origin

FAULTS = {
    "slow": (503, "credential_timeout"),
    "drips": (503, "credential_timeout"),
    "redirects": (502, "credential_redirected"),
    "html": (502, "credential_garbled"),
    "garbage": (502, "credential_garbled"),
    "endless": (502, "credential_too_long"),
    "huge": (502, "credential_too_long"),
    "expired": (502, "credential_lease_expired"),
    "cut": (503, "credential_unreachable"),
    "hangup": (503, "credential_unreachable"),
    "forbidden": (502, "credential_forbidden"),
    "throttled": (503, "credential_throttled"),
    "fails": (503, "credential_vault_failed"),
    "sealed": (503, "credential_sealed"),
    "refuses": (502, "credential_refused"),
    "nothing": (502, "credential_missing"),
    "odd": (502, "credential_field_missing"),
    "stranger": (502, "credential_untrusted"),
    "closed": (503, "credential_unreachable"),
}


@pytest.fixture(scope="module")
def broken(certificates: Certificates) -> Iterator[Broken]:
    started = Broken(certificates)
    yield started
    started.close()


@pytest.fixture(scope="module")
def gate(start: Start, folder: Path, broken: Broken, certificates: Certificates) -> Gate:
    write(folder / "token", "token-CANARY")
    others = folder / "others"
    others.mkdir()
    vault = {"address": broken.address, "login": {"token": f"file://{folder / 'token'}"}}
    providers = {
        "broken": {"hashicorp": vault | {"roots": str(certificates.roots)}},
        "stranger": {"hashicorp": vault | {"roots": str(write_certificates(others, ["localhost"]).roots)}},
        "closed": {"hashicorp": vault | {"address": "http://127.0.0.1:1"}},
    }
    credentials = {}
    for name in [*FAULTS, "good", "shared"]:
        provider = name if name in providers else "broken"
        credentials[name] = {"secret": f"vault://kv/{name}#key", "provider": provider}
    return start(providers, credentials)


def test_a_vault_in_order_is_read(gate: Gate, origin: Origin) -> None:
    assert gate.get("good").status == 200
    assert origin.hits("good")[-1].secret == SECRET


@pytest.mark.parametrize("fault", FAULTS)
def test_n12_n13_without_the_secret_nothing_is_sent(gate: Gate, origin: Origin, fault: str) -> None:
    started = time.monotonic()
    answer = gate.get(fault)
    assert (answer.status, answer.code) == FAULTS[fault]
    assert time.monotonic() - started < 7
    assert origin.hits(fault) == []
    failed = gate.outcome(answer.correlation)["data"]
    assert (failed["sent"], failed["reason"]) == (False, answer.code)
    assert (failed["credential"]["provider"], failed["credential"]["name"]) == ("hashicorp", fault)
    gate.assert_silent("CANARY")
    assert b"CANARY" not in answer.body and b"vault://" not in answer.body


def test_n14_a_login_is_made_anew_once_and_not_again(gate: Gate, broken: Broken) -> None:
    broken.asked.clear()
    gate.get("forbidden")
    assert broken.asked.count("forbidden") == 2 and broken.asked.count("lookup-self") == 1


def test_n14_a_lease_that_is_over_is_given_back(gate: Gate, broken: Broken) -> None:
    broken.asked.clear()
    gate.get("expired")
    assert broken.asked == ["expired", "revoke"]


def test_a_redirect_is_not_followed(gate: Gate, broken: Broken) -> None:
    broken.asked.clear()
    gate.get("redirects")
    assert "good" not in broken.asked


def test_who_asks_at_the_same_time_shares_one_call(gate: Gate, origin: Origin, broken: Broken) -> None:
    broken.asked.clear()
    askers = [threading.Thread(target=gate.get, args=["shared"]) for _ in range(16)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert (len(origin.hits("shared")), broken.asked.count("shared")) == (16, 1)


@pytest.mark.parametrize("fault", ["closed", "sealed", "html"])
def test_an_approved_request_waits_until_it_can_be_sent(gate: Gate, origin: Origin, fault: str) -> None:
    intent = gate.hold(fault)
    gate.approve(intent)
    failed = gate.outcome(intent)["data"]
    assert (failed["sent"], failed["reason"]) == (False, FAULTS[fault][1])
    assert (gate.status(intent), origin.hits(fault)) == ("approved", [])
