"""The real OpenBao: every engine and every login, what a rotated or revoked secret does, and what faults say."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import Certificates
from conftest import Start
from gate import Gate, write
from kubernetes import ACCOUNT, NAMESPACE, Kubernetes
from openbao import OpenBao
from origin import Origin

READ_ALL = "".join(f'path "{path}" {{ capabilities = ["read"] }}\n' for path in ["secret/data/*", "kv/*", "team1/kv/data/*"])

FAULTS = {
    "no-field": (502, "credential_field_missing"),
    "number": (502, "credential_not_text"),
    "object": (502, "credential_not_text"),
    "null": (502, "credential_not_text"),
    "empty": (502, "credential_empty"),
    "lines": (502, "credential_unfit"),
    "long": (502, "credential_too_long"),
    "nowhere": (502, "credential_missing"),
    "no-version": (502, "credential_missing"),
    "deleted": (502, "credential_missing"),
    "destroyed": (502, "credential_missing"),
    "unversioned": (502, "credential_missing"),
    "denied": (502, "credential_forbidden"),
    "wrong-role": (502, "credential_login_failed"),
    "wrong-token": (502, "credential_forbidden"),
    "unknown-account": (502, "credential_login_failed"),
}


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Kubernetes]:
    started = Kubernetes()
    yield started
    started.close()


@pytest.fixture(scope="module")
def gate(
    start: Start, folder: Path, openbao: OpenBao, kubernetes: Kubernetes, certificates: Certificates
) -> Gate:
    fill(openbao)
    reviews = {"kubernetes_host": kubernetes.address, "token_reviewer_jwt": kubernetes.token()}
    # It wants an authority even where it does not use one.
    reviews |= {"disable_local_ca_jwt": True, "kubernetes_ca_cert": certificates.roots.read_text()}
    openbao.api("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    openbao.api("POST", "auth/kubernetes/config", reviews)
    logins = log_ins(openbao, kubernetes, folder)
    providers = {name: {"hashicorp": {"address": openbao.address, "login": login}} for name, login in logins.items()}
    providers["team"] = {"hashicorp": providers["token"]["hashicorp"] | {"namespace": "team1"}}
    credentials = {name: {"secret": f"vault://secret/faults/{name}#key", "provider": "token"} for name in FAULTS}
    for name, reference in {
        "kv2": "vault://secret/apis/stripe#key",
        "first": "vault://secret/apis/stripe#key?version=1",
        "kv1": "vault://kv/old/apis/stripe#key",
        "no-version": "vault://secret/apis/stripe#key?version=9",
        "unversioned": "vault://kv/old/apis/stripe#key?version=1",
        "denied": "vault://secret-too/a#key",
    }.items():
        credentials[name] = {"secret": reference, "provider": "token"}
    for name in ("approle", "kubernetes", "brief", "periodic", "short", "wrong-role", "wrong-token", "unknown-account"):
        credentials[name] = {"secret": "vault://secret/apis/other#key", "provider": name}
    credentials["team"] = {"secret": "vault://kv/apis/stripe#key", "provider": "team"}
    credentials["cached"] = {"secret": "vault://secret/apis/cached#key", "provider": "token", "cache_seconds": 2}
    # A gate asks no proxy for itself.
    return start(providers, credentials, HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1")


def fill(openbao: OpenBao) -> None:
    """Puts secrets where the credentials look for them."""
    openbao.api("POST", "sys/mounts/kv/old", {"type": "kv"})
    openbao.api("POST", "sys/mounts/secret-too", {"type": "kv"})
    openbao.api("POST", "kv/old/apis/stripe", {"key": "sk_kv1_CANARY"})
    openbao.api("POST", "sys/namespaces/team1", {})
    openbao.api("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}, namespace="team1")
    openbao.api("POST", "kv/data/apis/stripe", {"data": {"key": "sk_team_CANARY"}}, namespace="team1")
    openbao.put("apis/stripe", key="sk_one_CANARY", other="x")
    openbao.put("apis/stripe", key="sk_two_CANARY", other="x")
    openbao.put("apis/other", key="sk_other_CANARY")
    openbao.put("apis/cached", key="sk_old_CANARY")
    values = {"number": 7, "object": {"a": "b"}, "null": None, "empty": "", "lines": "a\r\nb_CANARY", "long": "x" * 65_537}
    for name, value in values.items():
        openbao.put(f"faults/{name}", key=value)
    for name in ("no-field", "deleted", "destroyed"):
        openbao.put(f"faults/{name}", **{"other" if name == "no-field" else "key": "x_CANARY"})
    openbao.api("DELETE", "secret/data/faults/deleted")
    openbao.api("PUT", "secret/destroy/faults/destroyed", {"versions": [1]})
    openbao.allow("read-all", READ_ALL)


def log_ins(openbao: OpenBao, kubernetes: Kubernetes, folder: Path) -> dict[str, object]:
    """Every way to log in, and those that fail."""
    openbao.api("POST", "sys/auth/approle", {"type": "approle"})
    bound = {"bound_service_account_names": [ACCOUNT], "bound_service_account_namespaces": [NAMESPACE]}
    openbao.api("POST", "auth/kubernetes/role/gate", bound | {"token_policies": ["read-all"]})
    files = {
        "token": openbao.token("read-all"),
        "jwt": kubernetes.token(),
        "wrong": "wrong-CANARY",
    }
    for role, ttl in {"gate": "1h", "brief": "3s"}.items():
        openbao.api("POST", f"auth/approle/role/{role}", {"token_policies": ["read-all"], "token_ttl": ttl})
        files[f"{role}-id"] = openbao.api("GET", f"auth/approle/role/{role}/role-id")["data"]["role_id"]
        files[f"{role}-secret"] = openbao.api("POST", f"auth/approle/role/{role}/secret-id")["data"]["secret_id"]
    for name, text in files.items():
        write(folder / name, text + "\n")

    def file(name: str) -> str:
        return f"file://{folder / name}"

    def approle(role: str) -> dict[str, object]:
        return {"approle": {"role_id": file(f"{role}-id"), "secret_id": file(f"{role}-secret")}}

    return {
        "token": {"token": file("token")},
        "approle": approle("gate"),
        "brief": approle("brief"),
        "periodic": {"token": file("periodic")},
        "kubernetes": {"kubernetes": {"role": "gate", "token": file("jwt")}},
        "short": {"token": file("short")},
        "wrong-role": {"approle": {"role_id": file("gate-id"), "secret_id": file("wrong")}},
        "wrong-token": {"token": file("wrong")},
        "unknown-account": {"kubernetes": {"role": "gate", "token": file("wrong")}},
    }


@pytest.mark.parametrize(
    ("credential", "secret", "version"),
    [
        ("kv2", "sk_two_CANARY", "2"),
        ("first", "sk_one_CANARY", "1"),
        ("kv1", "sk_kv1_CANARY", None),
        ("team", "sk_team_CANARY", "1"),
        ("approle", "sk_other_CANARY", "1"),
        ("kubernetes", "sk_other_CANARY", "1"),
    ],
)
def test_a_secret_arrives_and_its_version_is_recorded(
    gate: Gate, origin: Origin, credential: str, secret: str, version: str | None
) -> None:
    answer = gate.get(credential)
    assert (answer.status, origin.hits(credential)[-1].secret) == (200, secret)
    used = gate.outcome(answer.correlation)["data"]["credential"]
    assert (used["provider"], used["version"]) == ("hashicorp", version)
    assert used["reference"].startswith("vault://")
    gate.assert_silent("CANARY")


@pytest.mark.parametrize("fault", FAULTS)
def test_n14_n15_n16_without_the_secret_nothing_is_sent(gate: Gate, origin: Origin, fault: str) -> None:
    answer = gate.get(fault)
    assert (answer.status, answer.code) == FAULTS[fault]
    assert origin.hits(fault) == []
    failed = gate.outcome(answer.correlation)["data"]
    assert (failed["sent"], failed["reason"], failed["credential"]["provider"]) == (False, answer.code, "hashicorp")
    gate.assert_silent("CANARY")


def test_n20_a_secret_that_is_rotated_after_the_approval_is_the_one_that_is_used(
    gate: Gate, origin: Origin, openbao: OpenBao
) -> None:
    openbao.put("apis/other", key="sk_before_CANARY")
    intent = gate.hold("approle")
    openbao.put("apis/other", key="sk_after_CANARY")
    gate.approve(intent)
    used = gate.outcome(intent)["data"]["credential"]
    assert origin.hits("approle")[-1].secret == "sk_after_CANARY"
    assert int(used["version"]) == openbao.api("GET", "secret/metadata/apis/other")["data"]["current_version"]


def test_g14_a_cached_secret_is_used_for_its_time_and_no_longer(gate: Gate, origin: Origin, openbao: OpenBao) -> None:
    assert gate.get("cached").status == 200
    openbao.put("apis/cached", key="sk_new_CANARY")
    gate.get("cached")
    time.sleep(2.1)
    gate.get("cached")
    assert [hit.secret for hit in origin.hits("cached")] == ["sk_old_CANARY", "sk_old_CANARY", "sk_new_CANARY"]


def test_a_login_is_made_once_and_made_anew_when_it_is_not_accepted_any_more(gate: Gate, openbao: OpenBao) -> None:
    assert gate.get("approle").status == 200
    before = tokens_of(openbao, "gate")
    assert gate.get("approle").status == 200
    assert tokens_of(openbao, "gate") == before
    for accessor in before:
        openbao.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    assert gate.get("approle").status == 200
    [_] = tokens_of(openbao, "gate")


def test_a_login_is_renewed_while_it_is_used(gate: Gate, openbao: OpenBao) -> None:
    assert gate.get("brief").status == 200
    first = tokens_of(openbao, "brief")
    # Three seconds are its life: without a renewal another login would be there at the end.
    for _ in range(2):
        time.sleep(2.2)
        assert gate.get("brief").status == 200
    assert tokens_of(openbao, "brief") == first


def test_a_token_of_the_operators_outlives_a_time_in_which_nothing_is_asked(
    gate: Gate, openbao: OpenBao, folder: Path
) -> None:
    write(folder / "periodic", openbao.token("read-all", period="9s"))
    assert gate.get("periodic").status == 200
    time.sleep(12)
    assert gate.get("periodic").status == 200


def test_n14_a_token_that_is_over_is_told_apart(gate: Gate, origin: Origin, openbao: OpenBao, folder: Path) -> None:
    write(folder / "short", openbao.token("read-all", ttl="3s", renewable=False))
    assert gate.get("short").status == 200
    time.sleep(3.5)
    answer = gate.get("short")
    assert (answer.status, answer.code) == (502, "credential_lease_expired")
    assert (gate.outcome(answer.correlation)["data"]["sent"], len(origin.hits("short"))) == (False, 1)
    write(folder / "short", openbao.token("read-all"))
    assert gate.get("short").status == 200


def test_k01_what_logs_in_is_written_nowhere(gate: Gate, folder: Path) -> None:
    gate.assert_silent("CANARY", *(file.read_text().strip() for file in folder.iterdir()))


def tokens_of(openbao: OpenBao, role: str) -> set[str]:
    """The logins of an AppRole that are in force."""
    found = set()
    for accessor in openbao.api("LIST", "auth/token/accessors")["data"]["keys"]:
        token = openbao.api("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]
        if (token.get("meta") or {}).get("role_name") == role:
            found.add(accessor)
    return found
