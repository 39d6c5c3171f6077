"""1Password through a fake `op` (there is no other for tests): what arrives, and what happens when it goes wrong."""

import shutil
import time
from pathlib import Path

import pytest

from conftest import Start
from gate import Gate, write
from origin import Origin

FAULTS = {
    "empty": (502, "credential_empty"),
    "hangs": (503, "credential_timeout"),
    "prompts": (502, "credential_command_failed"),
    "asks": (503, "credential_timeout"),
    "colours": (502, "credential_unfit"),
    "warns": (502, "credential_unfit"),
    "blurts": (502, "credential_command_failed"),
    "endless": (502, "credential_too_long"),
    "missing": (502, "credential_command_failed"),
}


@pytest.fixture(scope="module")
def gate(start: Start, folder: Path) -> Gate:
    folder.chmod(0o700)
    command = folder / "op"
    shutil.copy(Path(__file__).parent / "op", command)
    command.chmod(0o700)
    (folder / "AI Agents" / "Stripe").mkdir(parents=True)
    write(folder / "AI Agents" / "Stripe" / "key", "sk_first")
    write(folder / "token", "ops_right")
    write(folder / "wrong", "ops_wrong")
    settings = {"command": str(command), "token": f"file://{folder}/token", "config": str(folder)}
    providers = {
        "right": {"onepassword": settings},
        "wrong": {"onepassword": settings | {"token": f"file://{folder}/wrong"}},
        "none": {"onepassword": settings | {"token": "env://NO_SUCH_TOKEN"}},
    }
    references = {name: f"op://Faults/{name}/key" for name in [*FAULTS, "lingers"]}
    references |= {"stripe": "op://AI Agents/Stripe/key"}
    credentials = {name: {"secret": text, "provider": "right"} for name, text in references.items()}
    for provider in ("wrong", "none"):
        credentials[provider] = {"secret": references["stripe"], "provider": provider}
    return start(providers, credentials)


def test_a_secret_of_1password_arrives_and_a_rotated_one_at_once(gate: Gate, origin: Origin, folder: Path) -> None:
    for secret in ("sk_first", "sk_second"):
        write(folder / "AI Agents" / "Stripe" / "key", secret)
        answer = gate.get("stripe")
        assert (answer.status, origin.hits("stripe")[-1].secret) == (200, secret)
        used = gate.outcome(answer.correlation)["data"]["credential"]
        assert used == {"name": "stripe", "provider": "1password", "reference": "op://AI Agents/Stripe/key", "version": None}
    gate.assert_silent("sk_first", "sk_second", "ops_right")


@pytest.mark.parametrize("fault", FAULTS)
def test_n17_without_the_secret_nothing_is_sent(gate: Gate, origin: Origin, fault: str) -> None:
    started = time.monotonic()
    answer = gate.get(fault)
    assert (answer.status, answer.code) == FAULTS[fault]
    assert time.monotonic() - started < 10
    assert origin.hits(fault) == []
    failed = gate.outcome(answer.correlation)["data"]
    assert (failed["sent"], failed["reason"], failed["credential"]["provider"]) == (False, answer.code, "1password")
    gate.assert_silent("CANARY", "ops_right")


def test_what_op_leaves_behind_is_ended(gate: Gate, origin: Origin, folder: Path) -> None:
    assert gate.get("lingers").status == 200
    assert origin.hits("lingers")[-1].secret == "sk_lingering"
    assert gone((folder / "pids").read_text())
    gate.get("hangs")
    assert gone((folder / "pids").read_text())


def test_a_token_that_is_wrong_or_not_there_is_told_apart(gate: Gate, origin: Origin) -> None:
    assert gate.get("wrong").code == "credential_command_failed"
    assert gate.get("none").code == "credential_login_failed"
    assert origin.hits("wrong") + origin.hits("none") == []


def test_an_approval_survives_a_secret_that_is_not_there_and_gets_the_one_that_is_there_then(
    gate: Gate, origin: Origin, folder: Path
) -> None:
    key = folder / "AI Agents" / "Stripe" / "key"
    before = len(origin.hits("stripe"))
    intent = gate.hold("stripe")
    key.rename(folder / "away")
    gate.approve(intent)
    assert gate.outcome(intent)["data"]["sent"] is False
    assert (gate.status(intent), len(origin.hits("stripe"))) == ("approved", before)
    write(key, "sk_rotated")
    gate.approve(intent)
    assert gate.settled(intent) == "succeeded"
    [hit] = origin.hits("stripe")[before:]
    assert (hit.method, hit.secret) == ("POST", "sk_rotated")


def test_the_command_line_says_what_can_be_read(gate: Gate) -> None:
    good, bad = gate.writ("credentials", "test", "stripe"), gate.writ("credentials", "test", "blurts")
    assert good.code == 0 and " bytes" in good.out
    assert bad.code == 1 and "credential_command_failed" in bad.err and "CANARY" not in bad.err


def gone(pids: str) -> bool:
    """Whether these processes end soon. One that is dead may wait to be collected."""
    for _ in range(100):
        stats = [Path("/proc") / pid / "stat" for pid in pids.split()]
        if not any(stat.exists() and ") Z " not in stat.read_text() for stat in stats):
            return True
        time.sleep(0.05)
    return False
