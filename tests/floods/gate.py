"""The real `writ up` with its default limits."""

import json
import os
import subprocess
import threading
from pathlib import Path

from origin import API, PLAIN, Origin

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[2] / "target")).absolute()
WRIT = TARGET / "release" / "writ"

SETTINGS = f"""\
doors: {{{{ forward: '127.0.0.1:0', operator: '127.0.0.1:0' }}}}
upstream:
  connect_to:
    '{API}:443': '127.0.0.1:{{tls}}'
    '{PLAIN}:80': '127.0.0.1:{{plain}}'
"""

DESTINATIONS = f"""
  - key: floods.api
    match: {{{{ host: {API}, methods: [GET, POST], path: /allowed/** }}}}
    effect: read
    policy: floods
    roots: '{{roots}}'
  - key: floods.plain
    match: {{{{ host: {PLAIN}, path: /allowed/** }}}}
    schemes: [http]
    effect: read
    policy: floods
"""

POLICY = "destinations: [floods.api, floods.plain]\nrequire_approval: never\n"


class Gate:
    """A running gate."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.home = folder / "writ"
        self._env = {"HOME": str(folder), "PATH": os.environ["PATH"], "WRIT_HOME": str(self.home)}
        self.writ("init")
        (self.home / "writ.yaml").write_text(SETTINGS.format(tls=origin.tls_port, plain=origin.plain_port))
        with (self.home / "destinations.yaml").open("a") as destinations:
            destinations.write(DESTINATIONS.format(roots=origin.roots))
        (self.home / "policies" / "floods.yaml").write_text(POLICY)
        with (folder / "writ.log").open("wb") as log:
            pipe, plain = subprocess.PIPE, lambda: os.setpriority(os.PRIO_PROCESS, 0, 0)
            self._process = subprocess.Popen(
                [WRIT, "up"], env=self._env, stdout=pipe, stderr=log, text=True, preexec_fn=plain
            )
        doors = self._doors()
        if len(doors) != 2:
            raise RuntimeError((folder / "writ.log").read_text())
        self.port = int(doors["forward"].rsplit(":", 1)[1])
        self._env["WRIT_DOORS_OPERATOR"] = doors["operator"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def writ(self, *arguments: str) -> str:
        """Runs a command of the operator's."""
        done = subprocess.run([WRIT, *arguments], env=self._env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add_agent(self, name: str) -> str:
        """Adds an agent and returns its token."""
        return json.loads(self.writ("--json", "agents", "add", name, "--owner", "floods"))["token"]

    def stop(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(timeout=60)
        finally:
            self._process.kill()
            self._process.wait()

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
