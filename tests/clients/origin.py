"""A real HTTPS and HTTP origin that remembers every request it is sent, and serves git repositories.

One name speaks HTTP/1.1 only, another HTTP/2 only.
"""

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from certificates import Certificates

API = "api.example"
API_HTTP2 = "http2.example"
GIT = "git.example"
PLAIN = "plain.example"

GREETING = bytes(range(256))
"""Every reply that no test writes starts with each byte there is; the request's body follows."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Hit:
    """A request as it arrived; header names in lower case, the HTTP version as `1.1` or `2`."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    version: str


class Reply:
    """A reply of which a test gives one part after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, content_type: str) -> None:
        self.content_type = content_type
        self.gone = threading.Event()
        """Set when the reply was broken off by who asked for it."""
        self._loop = loop
        self._parts: asyncio.Queue[bytes] = asyncio.Queue()

    def give(self, *parts: bytes) -> None:
        for part in parts:
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)

    def end(self) -> None:
        self.give(b"")

    async def stream(self, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._watch(receive))
        while part := await self._parts.get():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        watch.cancel()
        await send({"type": "http.response.body"})

    async def _watch(self, receive: Receive) -> None:
        await receive()
        self.gone.set()
        self._parts.put_nowait(b"")


class Origin:
    """The servers, each listening on a port of its own, and what arrived."""

    def __init__(self, repositories: Path, certificates: Certificates) -> None:
        self.repositories = repositories
        self._hits: list[Hit] = []
        self._replies: dict[str, Reply] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        tls, tls2, plain = (socket.create_server(("127.0.0.1", 0)) for _ in range(3))
        listeners = {f"{API}:443": tls, f"{GIT}:443": tls, f"{API_HTTP2}:443": tls2, f"{PLAIN}:80": plain}
        self.addresses = {name: address(listener) for name, listener in listeners.items()}
        configs = [config(certificates, "http/1.1", tls, plain), config(certificates, "h2", tls2)]
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve(configs)], daemon=True)
        self._thread.start()

    def hits(self, path: str) -> list[Hit]:
        """What arrived for exactly this path, query and all."""
        return [hit for hit in list(self._hits) if hit.path == path]

    def reply(self, path: str, content_type: str = "application/octet-stream") -> Reply:
        """What the origin will answer at this path, instead of its greeting."""
        self._replies[path] = Reply(self._loop, content_type)
        return self._replies[path]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)

    async def _serve(self, configs: list[Config]) -> None:
        await asyncio.gather(*(serve(self._answer, each, shutdown_trigger=self._stop.wait) for each in configs))

    async def _answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request, as the ASGI application that hypercorn asks for."""
        if scope["type"] != "http":
            return
        hit = await arrived(scope, receive)
        self._hits.append(hit)
        reply = self._replies.get(hit.path)
        if reply is not None:
            await start(send, 200, {"Content-Type": reply.content_type})
            return await reply.stream(receive, send)
        if hit.headers.get("host") == GIT:
            status, headers, body = await asyncio.to_thread(git_backend, self.repositories, hit)
        else:
            status, headers, body = upstream_status(hit.method), {}, GREETING + hit.body
        await start(
            send, status, {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))} | headers
        )
        await send({"type": "http.response.body", "body": body})


def address(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


def config(
    certificates: Certificates, protocol: str, secure: socket.socket, plain: socket.socket | None = None
) -> Config:
    made = Config()
    made.alpn_protocols = [protocol]
    made.certfile, made.keyfile = str(certificates.chain), str(certificates.key)
    made.bind = [f"fd://{secure.detach()}"]
    made.insecure_bind = [f"fd://{plain.detach()}"] if plain else []
    made.keep_alive_timeout = 60
    return made


async def arrived(scope: dict[str, Any], receive: Receive) -> Hit:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    query = scope["query_string"].decode()
    path = scope["raw_path"].decode() + (f"?{query}" if query else "")
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    return Hit(scope["method"], path, headers, b"".join(parts), scope["http_version"])


async def start(send: Send, status: int, headers: dict[str, str]) -> None:
    fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})


def upstream_status(method: str) -> int:
    """A status of the origin's own, so that nothing else can be taken for it."""
    return 201 if method == "POST" else 200


def git_backend(repositories: Path, hit: Hit) -> tuple[int, dict[str, str], bytes]:
    """Runs git's own server as the CGI program it is (RFC 3875)."""
    path, _, query = hit.path.partition("?")
    variables = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROJECT_ROOT": str(repositories),
        "CONTENT_LENGTH": str(len(hit.body)),
        "CONTENT_TYPE": hit.headers.get("content-type", ""),
        "HTTP_CONTENT_ENCODING": hit.headers.get("content-encoding", ""),
        "HTTP_GIT_PROTOCOL": hit.headers.get("git-protocol", ""),
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": hit.method,
    }
    command = ["git", "http-backend"]
    done = subprocess.run(command, input=hit.body, env=variables, stdout=subprocess.PIPE, timeout=60, check=True)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    return int(headers.pop("Status", "200").split()[0]), headers, body
