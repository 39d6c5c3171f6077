"""The real `writ up`, configured by files as an operator would, and used by the lines it prints."""

import json
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

from greeter import GRPC
from origin import API, API_HTTP2, GIT, PLAIN
from socket_server import SOCKET

ROOT = Path(__file__).parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
WRIT = TARGET / "debug" / "writ"

DESTINATIONS = """
  - key: clients.allowed
    match:
      - {{ host: {api}, methods: [GET, POST], path: /allowed/** }}
      - {{ host: {api_http2}, methods: [GET, POST], path: /allowed/** }}
      - {{ host: {grpc}, methods: [POST], path: /allowed.Greeter/* }}
    effect: read
    policy: clients-allow
    roots: '{roots}'
  - key: clients.held
    match:
      - {{ host: {api}, methods: [GET, POST], path: /held/** }}
      - {{ host: {api_http2}, methods: [GET, POST], path: /held/** }}
      - {{ host: {grpc}, methods: [POST], path: /held.Greeter/* }}
    effect: external_mutation
    policy: clients-hold
    roots: '{roots}'
  - key: declared.allowed
    match: {{ host: {api}, methods: [POST], path: /declared/allowed }}
    effect: write
    policy: declared-allow
    roots: '{roots}'
    execute: {{ method: POST, path: /declared/allowed, content_type: text/plain }}
  - key: declared.held
    match: {{ host: {api}, methods: [POST], path: /declared/held }}
    effect: write
    policy: declared-hold
    roots: '{roots}'
    execute: {{ method: POST, path: /declared/held, content_type: text/plain }}
  - key: declared.runner
    match: {{ host: {api}, methods: [POST], path: /declared/runner }}
    effect: write
    policy: declared-allow
    execute: {{ method: POST, path: /declared/runner, content_type: text/plain, by: runner }}
  - key: plain.allowed
    match: {{ host: {plain}, path: /allowed/** }}
    schemes: [http]
    effect: read
    policy: clients-allow
  - key: plain.held
    match: {{ host: {plain}, path: /held/** }}
    schemes: [http]
    effect: external_mutation
    policy: clients-hold
  - key: git.fetch
    match:
      - {{ host: {git}, methods: [GET], path: /*/*/info/refs }}
      - {{ host: {git}, methods: [POST], path: /*/*/git-upload-pack }}
    effect: read
    policy: clients-allow
    roots: '{roots}'
  - key: git.fetch-held
    match: {{ host: {git}, methods: [POST], path: /held/*/git-upload-pack }}
    effect: external_mutation
    policy: clients-hold
    roots: '{roots}'
  - key: git.push
    match: {{ host: {git}, methods: [POST], path: /waits/*/git-receive-pack }}
    effect: external_mutation
    policy: clients-push
    measure: {{ bytes: "body:size" }}
    roots: '{roots}'
    wait_seconds: 60
  - key: git.push-later
    match: {{ host: {git}, methods: [POST], path: /later/*/git-receive-pack }}
    effect: external_mutation
    policy: clients-hold
    roots: '{roots}'
  - key: socket.allowed
    match: {{ host: {socket}, methods: [GET], path: /allowed/** }}
    effect: read
    policy: clients-allow
    roots: '{roots}'
    upgrade: websocket
  - key: socket.held
    match: {{ host: {socket}, methods: [GET], path: /held/** }}
    effect: external_mutation
    policy: clients-hold
    roots: '{roots}'
    upgrade: websocket
  - key: socket.plain
    match: {{ host: {socket}, methods: [GET], path: /plain/** }}
    effect: read
    policy: clients-allow
    roots: '{roots}'
"""

ALLOW = "destinations: [clients.allowed, plain.allowed, git.fetch, socket.allowed, socket.plain]\nrequire_approval: never\n"
HOLD = "destinations: [clients.held, plain.held, git.fetch-held, git.push-later, socket.held]\nrequire_approval: always\n"
DECLARED_ALLOW = "destinations: [declared.allowed, declared.runner]\nrequire_approval: never\nblock_if_terms: [forbidden words]\n"
DECLARED_HOLD = "destinations: [declared.held]\nrequire_approval: always\n"
PUSH = "destinations: [git.push]\nauto_approve_under: { bytes: 4 }\n"

ROUTES = [
    {"prefix": "/api", "upstream": f"https://{API}"},
    {"prefix": "/socket", "upstream": f"https://{SOCKET}"},
    {"host": "localhost", "prefix": "/v1", "upstream": f"https://{API}/allowed/payments"},
]


class Gate:
    """A running gate. `env` is the environment of an agent's shell after the printed lines were pasted."""

    def __init__(
        self,
        folder: Path,
        roots: Path,
        addresses: dict[str, str],
        variables: dict[str, str] | None = None,
        **limits: int,
    ) -> None:
        self.home = folder / "writ"
        set_limits = {f"WRIT_LIMITS_{name.upper()}": str(limit) for name, limit in limits.items()}
        self._env = clean_env(folder) | set_limits | (variables or {}) | {"WRIT_HOME": str(self.home)}
        self.writ("init")
        configure(self.home, roots, addresses)
        with (folder / "writ.log").open("wb") as log:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen([str(WRIT), "up"], env=self._env, stdout=pipe, stderr=log, text=True)
        self.printed = self._read_until("Ctrl-C")
        if self._process.poll() is not None:
            raise RuntimeError((folder / "writ.log").read_text())
        self._env["WRIT_DOORS_OPERATOR"] = self.shown("operator door").removeprefix("http://")
        self._env["WRIT_DOORS_FORWARD"] = self.shown("forward door").removeprefix("http://")
        self.env = pasted(self.printed, clean_env(folder))
        self.token = (self.home / "agent-default.token").read_text().strip()

    @property
    def operator(self) -> dict[str, str]:
        """The environment of the operator's shell: it knows where the gate is, and nothing of proxies."""
        return self._env

    @property
    def named_door(self) -> str:
        """The reverse door by a name that has routes of its own."""
        return self.shown("reverse door").replace("127.0.0.1", "localhost")

    def shown(self, label: str) -> str:
        """What `writ up` printed after this label."""
        [value] = [line.strip().removeprefix(label) for line in self.printed if line.strip().startswith(label)]
        return value.strip()

    def writ(self, *arguments: str) -> str:
        """Runs a command of the operator's."""
        command = [str(WRIT), *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token_in(self, file: str) -> str:
        """The token of an agent or operator that the first run made."""
        return (self.home / file).read_text().strip()

    def approve(self, intent: str) -> None:
        self.writ("approve", intent, "--rationale", "looked at it")

    def pending(self, path: str) -> list[dict[str, Any]]:
        """What waits for approval at this path."""
        waiting = json.loads(self.writ("pending", "--json"))["intents"]
        return [intent for intent in waiting if intent["request"]["path"] == path]

    def settled(self, intent: str) -> None:
        """Waits until the gate has carried out what was approved, as its agent would."""
        url = f"http://writ.internal/v1/intents/{intent}?wait=20"
        command = ["curl", "--silent", "--fail", "--max-time", "30", url]
        page = subprocess.run(command, env=self.env, capture_output=True, timeout=60, check=True).stdout
        assert json.loads(page)["status"] == "succeeded", page

    def outcome(self, path: str) -> dict[str, Any] | None:
        """How the request at this path ended, as the ledger tells it."""
        printed = self.writ("ledger", "tail", "--json", "--limit", "1000000")
        events = [json.loads(line) for line in printed.splitlines()]
        [sent] = [event for event in events if event["type"] == "decision.allowed" and event["data"]["path"] == path]
        of_it = [event for event in events if event.get("correlation_id") == sent["correlation_id"]]
        return next((event for event in of_it if event["type"].startswith("action.")), None)

    def memory(self, field: str) -> int:
        """Bytes, as `/proc/PID/status` names them: `VmRSS` is now, `VmHWM` the most there ever was."""
        [line] = re.findall(
            rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{self._process.pid}/status").read_text(), re.MULTILINE
        )
        return int(line) << 10

    def stop(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(timeout=30)
        finally:
            self._process.kill()
            self._process.communicate()

    def _read_until(self, last: str) -> list[str]:
        assert self._process.stdout is not None
        # A gate that says nothing is ended, which ends what it prints.
        deadline = threading.Timer(30, self._process.kill)
        deadline.start()
        lines = []
        for line in self._process.stdout:
            lines.append(line.rstrip("\n"))
            if last in line:
                break
        deadline.cancel()
        return lines


def configure(home: Path, roots: Path, addresses: dict[str, str]) -> None:
    """Adds to the starter files what the tests ask for. `addresses` says where each `host:port` really is."""
    doors = {"forward": "127.0.0.1:0", "operator": "127.0.0.1:0", "reverse": "127.0.0.1:0"}
    # JSON is YAML.
    config = {"doors": doors, "reverse": {"routes": ROUTES}, "upstream": {"connect_to": addresses}}
    (home / "writ.yaml").write_text(json.dumps(config))
    names = {"api": API, "api_http2": API_HTTP2, "git": GIT, "grpc": GRPC, "plain": PLAIN, "socket": SOCKET}
    with (home / "destinations.yaml").open("a") as destinations:
        destinations.write(DESTINATIONS.format(roots=roots, **names))
    (home / "policies" / "clients-allow.yaml").write_text(ALLOW)
    (home / "policies" / "clients-hold.yaml").write_text(HOLD)
    (home / "policies" / "clients-push.yaml").write_text(PUSH)
    (home / "policies" / "declared-allow.yaml").write_text(DECLARED_ALLOW)
    (home / "policies" / "declared-hold.yaml").write_text(DECLARED_HOLD)


def clean_env(home: Path) -> dict[str, str]:
    """No proxy, no authority and no client configuration that this machine may have set."""
    return {"HOME": str(home), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}


def pasted(printed: list[str], env: dict[str, str]) -> dict[str, str]:
    """The environment of a shell in which every printed `export` line was run."""
    exports = [line for line in printed if line.strip().startswith("export ")]
    script = "\n".join(["set -eu", *exports, "exec env -0"])
    output = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=30, check=True)
    return dict(variable.split("=", 1) for variable in output.stdout.split("\0") if variable)
