"""AWS Secrets Manager: moto in AWS's place, and a server that answers as AWS never should."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aws import REGION, Moto
from broken import Broken
from certificates import Certificates, write_certificates
from conftest import Start
from gate import Gate, write
from origin import Origin

KEYS = {"AWS_ACCESS_KEY_ID": "AKIACANARY", "AWS_SECRET_ACCESS_KEY": "aws-CANARY"}
NOTHING = {"AWS_EC2_METADATA_DISABLED": "true"}
"""Without keys AWS's chain ends at the metadata of the machine; these machines may have some."""

MISSING = {
    "nowhere": ("aws-sm://nowhere", 502, "credential_missing"),
    "no-version": ("aws-sm://apis/stripe?version=00000000-0000-0000-0000-000000000000", 502, "credential_missing"),
    "no-stage": ("aws-sm://apis/stripe#key?stage=NEXT", 502, "credential_missing"),
    "deleted": ("aws-sm://deleted", 502, "credential_missing"),
    "no-key": ("aws-sm://apis/stripe#nothing", 502, "credential_field_missing"),
    "no-object": ("aws-sm://plain#key", 502, "credential_field_missing"),
    "number": ("aws-sm://apis/stripe#number", 502, "credential_not_text"),
    "empty": ("aws-sm://apis/stripe#empty", 502, "credential_empty"),
    "lines": ("aws-sm://lines", 502, "credential_unfit"),
}

BROKEN = {
    "slow": (503, "credential_timeout"),
    "redirects": (502, "credential_redirected"),
    "html": (502, "credential_garbled"),
    "garbage": (502, "credential_garbled"),
    "endless": (502, "credential_too_long"),
    "hangup": (503, "credential_unreachable"),
    "fails": (503, "credential_vault_failed"),
    "unknown": (502, "credential_login_failed"),
    "limited": (503, "credential_throttled"),
    "closed_to_us": (502, "credential_forbidden"),
    "undecryptable": (502, "credential_refused"),
}


@pytest.fixture(scope="module")
def moto(folder: Path) -> Iterator[Moto]:
    started = Moto(folder)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def gate(start: Start, moto: Moto) -> Gate:
    old = moto.create("apis/stripe", json.dumps({"key": "sk_old_CANARY", "number": 7}))
    moto.change("apis/stripe", json.dumps({"key": "sk_new_CANARY", "number": 7, "empty": ""}))
    plain = moto.create("plain", "sk_plain_CANARY")
    moto.create("bytes", b"sk_bytes_CANARY")
    moto.create("lines", "a\nb_CANARY")
    moto.create("deleted", "x")
    moto.delete("deleted")
    credentials = {
        "newest": "aws-sm://apis/stripe#key",
        "previous": "aws-sm://apis/stripe#key?stage=AWSPREVIOUS",
        "version": f"aws-sm://apis/stripe?version={old['VersionId']}#key",
        "plain": "aws-sm://plain",
        "arn": f"aws-sm://{plain['ARN']}",
        "bytes": "aws-sm://bytes",
    } | {name: reference for name, (reference, _, _) in MISSING.items()}
    return start({"main": {"aws": {"region": REGION, "endpoint": moto.address}}}, credentials, **KEYS)


@pytest.mark.parametrize(
    ("credential", "secret"),
    [
        ("newest", "sk_new_CANARY"),
        ("previous", "sk_old_CANARY"),
        ("version", "sk_old_CANARY"),
        ("plain", "sk_plain_CANARY"),
        ("arn", "sk_plain_CANARY"),
        ("bytes", "sk_bytes_CANARY"),
    ],
)
def test_a_secret_arrives_and_its_version_is_recorded(gate: Gate, origin: Origin, credential: str, secret: str) -> None:
    answer = gate.get(credential)
    assert (answer.status, origin.hits(credential)[-1].secret) == (200, secret)
    used = gate.outcome(answer.correlation)["data"]["credential"]
    assert used["provider"] == "aws" and len(used["version"]) == 36
    gate.assert_silent("CANARY")


@pytest.mark.parametrize("fault", MISSING)
def test_without_the_secret_nothing_is_sent(gate: Gate, origin: Origin, fault: str) -> None:
    answer = gate.get(fault)
    assert (answer.status, answer.code) == MISSING[fault][1:]
    assert origin.hits(fault) == []
    failed = gate.outcome(answer.correlation)["data"]
    assert (failed["sent"], failed["reason"], failed["credential"]["provider"]) == (False, answer.code, "aws")
    gate.assert_silent("CANARY")


def test_a_pod_logs_in_with_its_web_identity(start: Start, folder: Path, moto: Moto, origin: Origin) -> None:
    write(folder / "identity", "identity-CANARY")
    moto.create("irsa", "sk_irsa_CANARY")
    role = {
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/writ",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "identity"),
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": moto.address,
    }
    # As in a pod: nothing is configured, all of it is in the environment.
    gate = start({}, {"irsa": "aws-sm://irsa"}, **role, **NOTHING)
    assert gate.get("irsa").status == 200
    assert origin.hits("irsa")[-1].secret == "sk_irsa_CANARY"
    gate.assert_silent("CANARY", moto.session_token())


def test_without_credentials_or_a_region_nothing_is_sent(start: Start, moto: Moto, origin: Origin) -> None:
    keyless = start({"main": {"aws": {"region": REGION, "endpoint": moto.address}}}, {"keyless": "aws-sm://plain"}, **NOTHING)
    assert keyless.get("keyless").code == "credential_login_failed"
    lost = start({"main": {"aws": {"endpoint": moto.address}}}, {"lost": "aws-sm://plain"}, **KEYS, **NOTHING)
    assert lost.get("lost").code == "credential_login_failed"
    assert origin.hits("keyless") + origin.hits("lost") == []


@pytest.fixture(scope="module")
def crooked(start: Start, certificates: Certificates) -> Iterator[Gate]:
    broken = Broken(certificates)
    settings = {"region": REGION, "endpoint": broken.address, "roots": str(certificates.roots)}
    yield start({"main": {"aws": settings}}, {name: f"aws-sm://{name}" for name in BROKEN}, **KEYS)
    broken.close()


@pytest.mark.parametrize("fault", BROKEN)
def test_n13_what_answers_in_awss_place_gets_nothing_sent(crooked: Gate, origin: Origin, fault: str) -> None:
    answer = crooked.get(fault)
    assert (answer.status, answer.code) == BROKEN[fault]
    assert origin.hits(fault) == []
    assert crooked.outcome(answer.correlation)["data"]["sent"] is False
    crooked.assert_silent("CANARY")


def test_n13_a_stranger_in_awss_place_is_sent_nothing(
    start: Start, folder: Path, origin: Origin, certificates: Certificates
) -> None:
    broken = Broken(certificates)
    others = folder / "others"
    others.mkdir()
    settings = {"region": REGION, "endpoint": broken.address, "roots": str(write_certificates(others, ["localhost"]).roots)}
    gate = start({"main": {"aws": settings}}, {"stranger": "aws-sm://good"}, **KEYS)
    answer = gate.get("stranger")
    assert (answer.status, answer.code) == (502, "credential_untrusted")
    assert (broken.asked, origin.hits("stranger"), gate.outcome(answer.correlation)["data"]["sent"]) == ([], [], False)
    gate.assert_silent("CANARY")
    broken.close()
