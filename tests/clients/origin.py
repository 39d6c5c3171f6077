"""A real HTTPS and HTTP origin that remembers every request it is sent, and serves git repositories."""

import datetime
import os
import ssl
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

API = "api.example"
GIT = "git.example"

GREETING = bytes(range(256))
"""Every reply starts with each byte there is; the request's body follows."""


@dataclass(frozen=True)
class Hit:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Origin:
    """The servers, the certificate authority that clients do not know, and what arrived."""

    def __init__(self, folder: Path) -> None:
        self.roots = folder / "roots.pem"
        self.repositories = folder / "repositories"
        self._hits: list[Hit] = []
        self._lock = threading.Lock()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(write_certificates(folder, self.roots))
        self._tls = self._serve(context)
        self._plain = self._serve(None)
        self.tls_port: int = self._tls.server_address[1]
        self.plain_port: int = self._plain.server_address[1]

    def hits(self, path: str) -> list[Hit]:
        """What arrived for exactly this path, query and all."""
        with self._lock:
            return [hit for hit in self._hits if hit.path == path]

    def record(self, hit: Hit) -> None:
        with self._lock:
            self._hits.append(hit)

    def close(self) -> None:
        for server in (self._tls, self._plain):
            server.shutdown()
            server.server_close()

    def _serve(self, context: ssl.SSLContext | None) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answer,), {"origin": self}))
        if context is not None:
            # The handshake belongs to the thread of the connection, not to the one that accepts.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


class Answer(BaseHTTPRequestHandler):
    """Answers one connection."""

    origin: Origin
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are remembered, not printed."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        hit = Hit(self.command, self.path, headers, body)
        self.origin.record(hit)
        if headers["host"] == GIT:
            self._send(*git_backend(self.origin.repositories, hit))
        else:
            self._send(upstream_status(hit.method), {"Content-Type": "application/octet-stream"}, GREETING + body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


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


def write_certificates(folder: Path, roots: Path) -> Path:
    """Makes an authority and a certificate for the origin's names; returns the file with chain and key."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Origin authority")])
    authority = (
        certificate(authority_name, authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName(API), x509.DNSName(GIT)])
    leaf = (
        certificate(x509.Name([]), authority_name, key)
        .add_extension(names, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    roots.write_bytes(authority.public_bytes(pem))
    chain = folder / "origin.pem"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(leaf.public_bytes(pem) + secret)
    return chain


def certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
