"""The schemas of `writ schema`, before the validator that most editors and pipelines build on.

What the gate loads, its schema accepts; a key or a type that the gate refuses, its schema refuses too.
"""

import functools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
import yaml

from gate import ROOT, WRIT, Gate
from origin import API

KINDS = ["agent", "cases", "config", "credentials", "destinations", "event", "policy"]
FOLDERS = {"agents": "agent", "policies": "policy", "tests": "cases"}
FILES = {"credentials": "credentials", "destinations": "destinations", "writ": "config"}
REFUSED = {"destinations": "destinations", "limits": "policy", "manifests": "agent", "policies": "policy", "rules": "policy"}
# Faults of the shape alone; others take knowledge that no schema has.
SHAPE = {"unknown_key", "wrong_type"}


class Yaml12(yaml.SafeLoader):
    """The core schema of YAML 1.2, which the gate reads: `on` is text, and so is a time."""


Yaml12.yaml_implicit_resolvers = {}
for tag, pattern, first in [
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|", ["~", "n", ""]),
]:
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


@functools.cache
def schema(kind: str) -> Any:
    printed = subprocess.run([WRIT, "schema", kind], capture_output=True, timeout=30, check=True).stdout
    return jsonschema.Draft202012Validator(json.loads(printed))


def faults(kind: str, text: str) -> list[str]:
    return [error.message for error in schema(kind).iter_errors(yaml.load(text, Yaml12))]


def shipped() -> Iterator[Any]:
    for folder in [ROOT / "deploy/example", ROOT / "proxy/src/starter"]:
        for path in sorted(folder.rglob("*.yaml")):
            kind = FOLDERS.get(path.parent.name) or FILES[path.stem]
            yield pytest.param(kind, path, id=str(path.relative_to(ROOT)))


def cases() -> list[Path]:
    found = sorted((ROOT / "policy/tests/cases").glob("*.yaml"))
    assert len(found) >= 20
    return found


def refused() -> Iterator[tuple[str, str, str, str]]:
    for name, kind in REFUSED.items():
        sections = (ROOT / f"policy/tests/refused/{name}.txt").read_text().split("\n=== ")[1:]
        for section in sections:
            head, _, text = section.partition("\n")
            codes, why = head.split(": ", 1)
            yield kind, codes, f"{name}: {why}", text


def test_every_schema_is_one() -> None:
    listed = subprocess.run([WRIT, "schema"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert listed.split() == KINDS
    as_json = subprocess.run([WRIT, "schema", "--json"], capture_output=True, timeout=30, check=True).stdout
    assert json.loads(as_json) == KINDS
    for kind in KINDS:
        jsonschema.Draft202012Validator.check_schema(schema(kind).schema)


@pytest.mark.parametrize(("kind", "path"), list(shipped()))
def test_what_is_shipped_fits(kind: str, path: Path) -> None:
    text = path.read_text()
    if any(line.strip() and not line.startswith("#") for line in text.splitlines()):
        assert faults(kind, text) == []


@pytest.mark.parametrize("path", cases(), ids=lambda path: path.stem)
def test_what_the_gate_decides_by_fits(path: Path) -> None:
    whole = yaml.load(path.read_text(), Yaml12)
    assert faults("destinations", whole["destinations"]) == []
    for kind, texts in [("policy", whole["policies"]), ("agent", whole.get("agents", {}))]:
        for name, text in texts.items():
            assert faults(kind, text) == [], name


def test_a_wrong_key_or_type_does_not_fit() -> None:
    fitting, refused_ones = [], 0
    for kind, codes, why, text in refused():
        if {code.split()[0] for code in codes.split(", ")} <= SHAPE:
            refused_ones += 1
            fitting += [] if faults(kind, text) else [why]
    assert fitting == []
    assert refused_ones >= 60


def test_what_the_ledger_holds_fits(gate: Gate, own: str) -> None:
    proxies = {"proxies": {"https": gate.env["HTTPS_PROXY"]}, "verify": gate.env["REQUESTS_CA_BUNDLE"], "timeout": 30}
    assert requests.get(f"https://{API}/allowed/{own}", **proxies).status_code == 200
    assert requests.delete(f"https://{API}/allowed/{own}", **proxies).status_code == 403
    held = requests.post(f"https://{API}/held/{own}", **proxies).json()["intentId"]
    gate.approve(held)
    gate.settled(held)
    reads = gate.home / "policies" / "reads.yaml"
    sound = reads.read_text()
    reads.write_text("nothing: such\n")
    with pytest.raises(AssertionError, match="unknown key"):
        gate.writ("reload")
    reads.write_text(sound)

    lines = [line for path in (gate.home / "data/events").glob("*.jsonl") for line in path.read_text().splitlines()]
    events = [json.loads(line) for line in lines]
    assert [error.message for event in events for error in schema("event").iter_errors(event)] == []
    wanted = {"decision.allowed", "decision.denied", "decision.approval_required", "approval.vote", "action.executing"}
    assert wanted | {"action.executed", "config.loaded", "config.refused"} <= {event["type"] for event in events}
    del events[-1]["entry_hash"]
    assert not schema("event").is_valid(events[-1])
