"""Dynamic secrets: a database user made for one request, and gone when the request is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Start
from gate import Gate, write
from openbao import OpenBao
from origin import Hit, Origin
from postgres import PASSWORD, USER, Postgres

CREATE = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
READ = 'path "database/creds/gate" { capabilities = ["read"] }\n'
REVOKE = 'path "sys/leases/revoke" { capabilities = ["update"] }\n'


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    started = Postgres()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def gate(start: Start, folder: Path, openbao: OpenBao, postgres: Postgres) -> Gate:
    openbao.api("POST", "sys/mounts/database", {"type": "database"})
    connection = {
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": ["gate"],
        "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{postgres.port}/postgres",
        "username": USER,
        "password": PASSWORD,
    }
    openbao.api("POST", "database/config/main", connection)
    role = {"db_name": "main", "creation_statements": [CREATE], "default_ttl": "60s"}
    openbao.api("POST", "database/roles/gate", role)
    openbao.allow("lease", READ + REVOKE)
    openbao.allow("lease-without-end", READ)
    providers = {}
    for policy in ("lease", "lease-without-end"):
        write(folder / policy, openbao.token(policy))
        login = {"token": f"file://{folder / policy}"}
        providers[policy] = {"hashicorp": {"address": openbao.address, "login": login}}
    user, nothing = "vault://database/creds/gate#username", "vault://database/creds/gate#nothing"
    credentials = {
        "leased": {"secret": user, "provider": "lease"},
        "kept": {"secret": user, "provider": "lease", "cache_seconds": 60},
        "unending": {"secret": user, "provider": "lease-without-end"},
        "unusable": {"secret": nothing, "provider": "lease"},
    }
    return start(providers, credentials)


def test_a_database_user_lives_as_long_as_its_request(
    gate: Gate, origin: Origin, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    during: list[bool] = []

    def look(hit: Hit) -> None:
        during.append(postgres.has_role(hit.secret))

    monkeypatch.setattr(origin, "on_hit", look)
    answer = gate.get("leased")
    outcome = gate.outcome(answer.correlation)
    user = origin.hits("leased")[-1].secret
    assert (answer.status, outcome["type"], during) == (200, "action.executed", [True])
    assert user.startswith("v-") and not postgres.has_role(user)
    assert "lease_not_revoked" not in outcome["data"]
    assert outcome["data"]["credential"]["version"].startswith("database/creds/gate/")


def test_a_leased_secret_is_never_kept_for_the_next_request(gate: Gate, origin: Origin, postgres: Postgres) -> None:
    for _ in range(2):
        gate.outcome(gate.get("kept").correlation)
    first, second = (hit.secret for hit in origin.hits("kept"))
    assert first != second and not postgres.has_role(first) and not postgres.has_role(second)


def test_a_lease_that_cannot_be_ended_is_recorded(gate: Gate, origin: Origin, postgres: Postgres) -> None:
    answer = gate.get("unending")
    outcome = gate.outcome(answer.correlation)
    assert (answer.status, outcome["type"]) == (200, "action.executed")
    assert "may not be read" in outcome["data"]["lease_not_revoked"]
    assert postgres.has_role(origin.hits("unending")[-1].secret)


def test_a_secret_that_cannot_be_used_is_given_back_at_once(gate: Gate, origin: Origin, openbao: OpenBao) -> None:
    def leases() -> set[str]:
        return set(openbao.api("LIST", "sys/leases/lookup/database/creds/gate")["data"]["keys"])

    before = leases()
    assert gate.get("unusable").code == "credential_field_missing"
    assert (origin.hits("unusable"), leases()) == ([], before)


def test_trying_a_credential_gives_it_back(gate: Gate, openbao: OpenBao) -> None:
    before = openbao.api("LIST", "sys/leases/lookup/database/creds/gate")["data"]["keys"]
    assert gate.writ("credentials", "test", "leased").code == 0
    assert openbao.api("LIST", "sys/leases/lookup/database/creds/gate")["data"]["keys"] == before


def test_n12_a_sealed_vault_leaves_the_approval_in_force(gate: Gate, origin: Origin, openbao: OpenBao) -> None:
    openbao.api("PUT", "sys/seal")
    sealed = gate.get("leased")
    before = len(origin.hits("leased"))
    assert (sealed.status, sealed.code) == (503, "credential_sealed")
    intent = gate.hold("leased")
    gate.approve(intent)
    assert gate.outcome(intent)["data"]["reason"] == "credential_sealed"
    assert (gate.status(intent), len(origin.hits("leased"))) == ("approved", before)
    openbao.unseal()
    gate.approve(intent)
    assert gate.settled(intent) == "succeeded"
    assert len(origin.hits("leased")) == before + 1
