"""An agent that wants nothing but its answers, from an address of its own, and how long it waits for them."""

import base64
import socket
import ssl
import time

from origin import API


class Healthy:
    """Asks on one connection through a tunnel, and on a new one now and then."""

    def __init__(self, port: int, token: str, bundle: str) -> None:
        self.port = port
        self.credential = base64.b64encode(f"healthy:{token}".encode()).decode()
        self.tls = ssl.create_default_context(cafile=bundle)
        self.stream: ssl.SSLSocket | None = None

    def measure(self, seconds: float) -> list[float]:
        """Seconds that each request took, sorted."""
        end, waits = time.monotonic() + seconds, []
        while time.monotonic() < end:
            if len(waits) % EACH == 0:
                self.close()
            start = time.monotonic()
            self.ask()
            waits.append(time.monotonic() - start)
            time.sleep(PAUSE)
        return sorted(waits)

    def ask(self) -> None:
        """One request; fails when it is not answered with 200."""
        if self.stream is None:
            self.stream = self.open()
        self.stream.sendall(f"GET /allowed/healthy HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
        head = self.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        left = int(length.split(b":")[1]) - len(head.partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(self.stream.recv(left))

    def open(self) -> ssl.SSLSocket:
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT, source_address=("127.0.0.2", 0))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"CONNECT {API}:443 HTTP/1.1\r\nHost: {API}:443\r\nProxy-Authorization: Basic {self.credential}\r\n\r\n"
        stream.sendall(head.encode())
        answer = stream.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return self.tls.wrap_socket(stream, server_hostname=API)

    def until(self, end: bytes) -> bytes:
        data = b""
        while end not in data:
            more = self.stream.recv(65536)
            assert more, "the connection ended"
            data += more
        return data

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
        self.stream = None


def p99(waits: list[float]) -> float:
    return waits[int(len(waits) * 0.99)]


LIMIT = 10
"""Seconds for anything."""

PAUSE = 0.01

EACH = 20
"""Requests on one connection."""
