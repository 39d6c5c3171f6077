"""The real OpenBao server (`bao server -dev`), configured over its API as an operator would."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

BAO = Path(sys.executable).parent / "bao"
ROOT = "root-CANARY"


class OpenBao:
    """A server of its own, in memory. Its root token is `ROOT`."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._session = requests.Session()
        self._session.trust_env = False
        self._log = folder / "log"
        command = [BAO, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"-dev-listen-address=127.0.0.1:{port}"],
                env={"HOME": str(folder), "PATH": os.environ["PATH"]},
                stdout=log,
                stderr=log,
            )
        for _ in range(200):
            if self._is_up():
                return
            time.sleep(0.1)
        raise RuntimeError(self._log.read_text())

    def api(self, method: str, path: str, body: Any = None, namespace: str | None = None, token: str = ROOT) -> Any:
        """Asks the API; what it refuses is a failure of the test."""
        headers = {"X-Vault-Token": token} | ({"X-Vault-Namespace": namespace} if namespace else {})
        reply = self._session.request(method, f"{self.address}/v1/{path}", json=body, headers=headers, timeout=30)
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def put(self, path: str, **fields: Any) -> None:
        """Writes a version of a secret in the KV v2 engine that a development server comes with."""
        self.api("POST", f"secret/data/{path}", {"data": fields})

    def allow(self, policy: str, rules: str, namespace: str | None = None) -> None:
        self.api("PUT", f"sys/policies/acl/{policy}", {"policy": rules}, namespace)

    def token(self, *policies: str, **settings: Any) -> str:
        """A token that may do what these policies allow."""
        return self.api("POST", "auth/token/create", {"policies": policies} | settings)["auth"]["client_token"]

    def unseal(self) -> None:
        """With the key that a development server prints."""
        [key] = re.findall(r"^Unseal Key: (\S+)$", self._log.read_text(), re.MULTILINE)
        self.api("PUT", "sys/unseal", {"key": key})

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self._session.get(f"{self.address}/v1/sys/health", timeout=5).ok
        except requests.ConnectionError:
            return False
