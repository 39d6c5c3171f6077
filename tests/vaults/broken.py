"""A vault that answers as no vault should, each time in the way that the path asks for."""

import json
import socket
import ssl
import threading
import time

from certificates import Certificates

SECRET = "sk_CANARY"
GOOD = {"data": {"key": SECRET}, "lease_id": ""}


class Broken:
    """Listens over TLS until it is closed. `asked` are the requests that came, one word for each."""

    def __init__(self, certificates: Certificates) -> None:
        self.asked: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.chain, certificates.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"https://localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with self._context.wrap_socket(client, server_side=True) as stream:
                head = b""
                while not is_whole(head):
                    head += stream.recv(65_536)
                self._answer(stream, head.split(b" ")[1].decode(), head.partition(b"\r\n\r\n")[2])
        except OSError:
            client.close()

    def _answer(self, stream: ssl.SSLSocket, path: str, body: bytes) -> None:
        """Everything is as it should be, but for the secret itself. AWS asks for it in the body."""
        if path == "/":
            path = f"/v1/kv/{json.loads(body)['SecretId']}"
        is_mount = path.startswith("/v1/sys/internal/ui/mounts/")
        self.asked.append("mount" if is_mount else path.rsplit("/", 1)[1])
        if path == "/v1/auth/token/lookup-self":
            stream.sendall(reply(200, {"data": {"ttl": 0}}))
        elif is_mount:
            stream.sendall(reply(200, {"data": {"path": "kv/", "type": "kv", "options": None}}))
        else:
            getattr(self, path.rsplit("/", 1)[1])(stream)

    def good(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(200, GOOD))

    def shared(self, stream: ssl.SSLSocket) -> None:
        time.sleep(3)
        self.good(stream)

    def expired(self, stream: ssl.SSLSocket) -> None:
        """A dynamic secret that is over when it comes."""
        time.sleep(1.2)
        stream.sendall(reply(200, GOOD | {"lease_id": "database/creds/x/1", "lease_duration": 1}))

    def revoke(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def slow(self, stream: ssl.SSLSocket) -> None:
        time.sleep(30)
        self.good(stream)

    def drips(self, stream: ssl.SSLSocket) -> None:
        for byte in reply(200, GOOD):
            stream.sendall(bytes([byte]))
            time.sleep(0.3)

    def redirects(self, stream: ssl.SSLSocket) -> None:
        location = f"Location: {self.address}/v1/kv/good\r\n".encode()
        stream.sendall(b"HTTP/1.1 307 Temporary Redirect\r\n" + location + b"Content-Length: 0\r\n\r\n")

    def html(self, stream: ssl.SSLSocket) -> None:
        page = f"<html><body>Please log in {SECRET}</body></html>".encode()
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page) + page)

    def garbage(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(b"\x00\x01SSH-2.0-" + SECRET.encode() + b"\r\n\r\n")

    def endless(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"data":{"key":"')
        while True:
            stream.sendall(SECRET.encode() * 1000)

    def huge(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(200, {"data": {"key": "x" * 65_537}}))

    def cut(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(200, GOOD)[:-5])

    def hangup(self, stream: ssl.SSLSocket) -> None:
        stream.close()

    def forbidden(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(403, {"errors": [f"permission denied {SECRET}"]}))

    def throttled(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(429, {"errors": ["quota exceeded"]}))

    def fails(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(500, {"errors": [f"internal error {SECRET}"]}))

    def sealed(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(503, {"errors": ["Vault is sealed"]}))

    def refuses(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(400, {"errors": [f"bad request {SECRET}"]}))

    def nothing(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(200, {"data": None}))

    def odd(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(200, {"data": [SECRET]}))


    def unknown(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(400, {"__type": "UnrecognizedClientException", "message": SECRET}))

    def limited(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(400, {"__type": "ThrottlingException", "message": SECRET}))

    def closed_to_us(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(400, {"__type": "AccessDeniedException", "message": SECRET}))

    def undecryptable(self, stream: ssl.SSLSocket) -> None:
        stream.sendall(reply(400, {"__type": "DecryptionFailure", "message": SECRET}))


def is_whole(request: bytes) -> bool:
    """Whether a request has come with its body."""
    head, end, body = request.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end) and len(body) >= int(lengths[0] if lengths else 0)


def reply(status: int, body: object) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text
