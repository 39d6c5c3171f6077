"""The clients, each a process of its own in an agent's environment, all asked in the same way."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gate import TARGET

Env = dict[str, str]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Answer:
    """What a client was told; header names in lower case, the HTTP version as `1.1` or `2`."""

    status: int
    headers: dict[str, str]
    body: bytes
    version: str

    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


Client = Callable[[Env, str, str, bytes], Answer]


def run(command: list[str | Path], env: Env, body: bytes) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command, env=env, input=body, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done


def curl(env: Env, method: str, url: str, body: bytes, *options: str) -> Answer:
    sends = ["--data-binary", "@-", "--header", "Content-Type: application/octet-stream"] if body else []
    report = '%{stderr}{"status": %{http_code}, "version": "%{http_version}", "headers": %{header_json}}'
    fixed = ["curl", "--silent", "--show-error", "--max-time", "30", "--request", method, "--write-out", report]
    done = run([*fixed, *sends, *options, url], env, body)
    told = json.loads(done.stderr)
    headers = {name: values[0] for name, values in told["headers"].items()}
    return Answer(told["status"], headers, done.stdout, told["version"])


def curl_with(option: str) -> Client:
    return lambda env, method, url, body: curl(env, method, url, body, option)


def script(*command: str | Path) -> Client:
    """A client that is one of the `send` scripts with one of its libraries."""

    def send(env: Env, method: str, url: str, body: bytes) -> Answer:
        modules = {"NODE_PATH": str(TARGET / "node" / "node_modules")}
        told = json.loads(run([*command, method, url], env | modules, body).stdout)
        return Answer(told["status"], told["headers"], base64.b64decode(told["body"]), told["version"])

    return send


CLIENTS: dict[str, Client] = {
    "aiohttp": script(sys.executable, HERE / "send.py", "aiohttp"),
    "curl-http1.1": curl_with("--http1.1"),
    "curl-http2": curl_with("--http2"),
    "httpx": script(sys.executable, HERE / "send.py", "httpx"),
    "httpx-http2": script(sys.executable, HERE / "send.py", "httpx-http2"),
    "requests": script(sys.executable, HERE / "send.py", "requests"),
    "urllib": script(sys.executable, HERE / "send.py", "urllib"),
    "node-axios": script("node", HERE / "send.js", "axios"),
    "node-axios-absolute": script("node", HERE / "send.js", "axios-absolute"),
    "node-https": script("node", HERE / "send.js", "https"),
    "node-undici": script("node", HERE / "send.js", "undici"),
}
