"""The real `writ up` in front of one API, with a destination for each credential that a test wants."""

import json
import os
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from certificates import Certificates
from origin import API

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[2] / "target")).absolute()
WRIT = TARGET / "debug" / "writ"

POLICIES = {
    "reads": "destinations: [{reads}]\n",
    "changes": "destinations: [{changes}]\nrequire_approval: always\n",
    "writes": "destinations: [{writes}]\nrequire_approval: never\n",
}
KINDS = [("reads", ["GET", "HEAD"], "read"), ("changes", ["POST"], "external_mutation"), ("writes", ["PUT"], "write")]


@dataclass(frozen=True)
class Answer:
    """What an agent was told."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return json.loads(self.body)["code"]

    @property
    def correlation(self) -> str:
        return self.headers["writ-correlation-id"]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Gate:
    """A running gate. GET and PUT of a credential's path are allowed, POST is held."""

    def __init__(
        self,
        folder: Path,
        address: str,
        certificates: Certificates,
        providers: dict[str, Any],
        credentials: dict[str, Any],
        variables: dict[str, str] | None = None,
    ) -> None:
        self.home = folder / "writ"
        self._log = folder / "writ.log"
        path = os.environ["PATH"]
        self._env = {"HOME": str(folder), "PATH": path, "WRIT_HOME": str(self.home)} | (variables or {})
        assert self.writ("init").code == 0
        self._configure(address, certificates, providers, credentials)
        with self._log.open("wb") as log:
            pipe = subprocess.PIPE
            trace = self._env | {"WRIT_LOG": "trace"}
            self._process = subprocess.Popen([WRIT, "up"], env=trace, stdout=pipe, stderr=log, text=True)
        doors = self._doors()
        if len(doors) != 2:
            raise RuntimeError(self.log())
        self._env["WRIT_DOORS_OPERATOR"] = doors["operator"]
        token = (self.home / "agent-default.token").read_text().strip()
        self._agent = requests.Session()
        self._agent.trust_env = False
        self.proxy = f"http://default:{token}@{doors['forward']}"
        self.roots = str(self.home / "ca-bundle.pem")
        self._agent.proxies, self._agent.verify = {"https": self.proxy}, self.roots

    def get(self, credential: str) -> Answer:
        """Asks for something that is allowed, with this credential."""
        return self._ask("GET", credential)

    def hold(self, credential: str) -> str:
        """Asks for something that is held, with this credential, and returns the intent."""
        answer = self._ask("POST", credential)
        assert answer.status == 202, answer
        return json.loads(answer.body)["intentId"]

    def approve(self, intent: str) -> None:
        assert self.writ("approve", intent, "--rationale", "looked at it").code == 0

    def status(self, intent: str) -> str:
        """The state of an intent."""
        return json.loads(self.writ("intents", "show", intent).out)["state"]

    def settled(self, intent: str) -> str:
        """The state of an intent that is being carried out, once that is done."""
        for _ in range(200):
            state = self.status(intent)
            if state not in ("approved", "executing"):
                return state
            threading.Event().wait(0.05)
        raise AssertionError(f"{intent} was not carried out")

    def outcome(self, about: str) -> dict[str, Any]:
        """The event that says how a request or an intent ended; waits for it."""
        for _ in range(200):
            found = [event for event in self.events() if about in (event.get("correlation_id"), event.get("intent_id"))]
            ended = [event for event in found if event["type"] in ("action.executed", "action.failed", "action.unknown")]
            if ended:
                return ended[-1]
            threading.Event().wait(0.05)
        raise AssertionError(f"{about} did not end")

    def events(self) -> list[dict[str, Any]]:
        """Everything in the ledger, as far as the gate itself knows of it."""
        printed = self.writ("ledger", "tail", "--json", "--limit", "1000000")
        return [json.loads(line) for line in printed.out.splitlines()]

    def writ(self, *arguments: str) -> Done:
        """Runs a command of the operator's."""
        done = subprocess.run([WRIT, *arguments], env=self._env, capture_output=True, text=True, timeout=60)
        return Done(done.returncode, done.stdout, done.stderr)

    def log(self) -> str:
        """What it has logged, at trace level."""
        return self._log.read_text()

    def assert_silent(self, *secrets: str) -> None:
        """No secret stands in the log or in the journal."""
        everything = self.log() + json.dumps(self.events())
        for secret in secrets:
            assert secret not in everything, f"{secret[:4]}… was written somewhere"

    def stop(self) -> None:
        assert self.writ("ledger", "verify").code == 0
        self._process.terminate()
        try:
            assert self._process.wait(timeout=60) == 0
        finally:
            self._process.kill()
            self._process.communicate()
        assert "panicked" not in self.log()

    def _ask(self, method: str, credential: str) -> Answer:
        reply = self._agent.request(method, f"https://{API}/{credential}/x", timeout=60)
        return Answer(reply.status_code, {name.lower(): value for name, value in reply.headers.items()}, reply.content)

    def _configure(
        self, address: str, certificates: Certificates, providers: dict[str, Any], credentials: dict[str, Any]
    ) -> None:
        """JSON is YAML."""
        settings = {
            "doors": {"forward": "127.0.0.1:0", "operator": "127.0.0.1:0"},
            "upstream": {"connect_to": {f"{API}:443": address}, "roots": str(certificates.roots)},
            "providers": providers,
        }
        destinations, entries = [], {}
        for name, given in credentials.items():
            entry = given if isinstance(given, dict) else {"secret": given}
            entries[name] = {"hosts": [API], "inject": {"bearer": "{secret}"}} | entry
            for kind, methods, effect in KINDS:
                match = {"host": API, "methods": methods, "path": f"/{name}/**"}
                key = f"{name}.{kind}"
                destinations.append({"key": key, "match": match, "effect": effect, "policy": kind, "credential": name})
        write(self.home / "writ.yaml", json.dumps(settings))
        write(self.home / "credentials.yaml", json.dumps({"credentials": entries}))
        write(self.home / "destinations.yaml", json.dumps({"destinations": destinations}))
        for policy in (self.home / "policies").iterdir():
            policy.unlink()
        for kind, text in POLICIES.items():
            keys = ", ".join(each["key"] for each in destinations if each["policy"] == kind)
            write(self.home / "policies" / f"{kind}.yaml", text.format(**{kind: keys}))

    def _doors(self) -> dict[str, str]:
        # A gate that says nothing is ended, which ends what it prints.
        deadline = threading.Timer(30, self._process.kill)
        deadline.start()
        doors = {}
        for line in self._process.stdout:
            for name in ("forward", "operator"):
                if line.strip().startswith(f"{name} door"):
                    doors[name] = line.split("http://")[1].strip()
            if "Ctrl-C" in line:
                break
        deadline.cancel()
        return doors


def write(file: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file that only its owner may read."""
    file.write_text(text)
    file.chmod(mode)
