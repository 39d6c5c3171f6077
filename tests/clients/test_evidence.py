"""What an auditor's own tools make of the evidence: JSON Schema of a bundle, and ProofGuard's package of a capsule."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import proofguard
import proofguard.ledger
import pytest
import requests
from proofguard.canonical import canon_dumps

from gate import ROOT, Gate
from origin import API

SCHEMAS = ROOT / "ledger" / "schema"


@pytest.fixture
def busy(gate: Gate, own: str) -> Gate:
    """A gate with a request that was allowed, one that was denied, and one that was held, approved and run."""
    with requests.Session() as session:
        session.trust_env = False
        session.proxies, session.verify = {"https": gate.env["HTTPS_PROXY"]}, gate.env["REQUESTS_CA_BUNDLE"]
        assert session.get(f"https://{API}/allowed/{own}").status_code == 200
        assert session.delete(f"https://{API}/nowhere/{own}").status_code == 403
        intent = session.post(f"https://{API}/held/{own}", data="x=1").json()["intentId"]
    gate.approve(intent)
    gate.settled(intent)
    return gate


def test_a_bundle_is_what_its_schemas_say(busy: Gate, tmp_path: Path) -> None:
    bundle = tmp_path / "evidence.zip"
    busy.writ("export", "--since", "2020-01-01", "--out", str(bundle))
    with zipfile.ZipFile(bundle) as archive:
        manifest, lines = archive.read("manifest.json"), archive.read("events.jsonl").splitlines()
    validator("manifest").validate(json.loads(manifest))
    for line in lines:
        validator("event").validate(json.loads(line))
    # They are not schemas that anything passes.
    for name, text, wrong in [
        ("manifest", manifest, {"schema": "writ-evidence-2"}),
        ("manifest", manifest, {"note": "trust me"}),
        ("event", lines[1], {"v": 2}),
        ("event", lines[1], {"data": {"amount": 1.5}}),
        ("event", lines[0], {"data": {}}),
    ]:
        assert not validator(name).is_valid(json.loads(text) | wrong), wrong


def test_proofguard_recomputes_every_hash_of_a_capsule(busy: Gate, tmp_path: Path, monkeypatch: Any) -> None:
    file, ledger = tmp_path / "capsule.json", tmp_path / "ledger.jsonl"
    busy.writ("export", "--since", "2020-01-01", "--capsule", "--out", str(file))
    capsule = json.loads(file.read_text())
    assert capsule["schema_version"] == proofguard.SCHEMA_VERSION
    sides = [pair[side] for pair in capsule["pairs"] for side in ("decision", "execution") if pair[side]]
    entries = list({side["entry_hash"]: side for side in sides}.values())
    entries.sort(key=lambda entry: entry["writ"]["seq"])
    before = "genesis"
    for entry in entries:
        body = {name: value for name, value in entry.items() if name != "entry_hash"}
        assert hashlib.sha256(canon_dumps(body).encode()).hexdigest() == entry["entry_hash"]
        assert entry["prev_hash"] == before
        before = entry["entry_hash"]
    # As a ledger of ProofGuard's own it exports as what the capsule says, and its gate lets through what passed.
    ledger.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
    monkeypatch.setattr(proofguard.ledger, "_LEDGER", ledger)
    monkeypatch.setattr(proofguard.ledger, "_VIOLATION_LOG", tmp_path / "violations.jsonl")
    again = proofguard.ledger.export_proof_capsule(str(tmp_path / "again.json"))
    for name in ("ledger_root_hash", "total_entries", "total_decisions", "total_executions"):
        assert again[name] == capsule[name], name
    judgments = {entry["judgment_result"] for entry in entries if entry["type"] == "decision"}
    assert judgments == {"PASS", "HOLD", "STOP"}
    for entry in entries:
        if entry["type"] == "decision" and entry["judgment_result"] != "PASS":
            with pytest.raises(proofguard.ExecutionBoundaryViolation):
                proofguard.pre_execution_guard(entry["decision_id"])
        elif entry["type"] == "decision":
            proofguard.pre_execution_guard(entry["decision_id"])


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
