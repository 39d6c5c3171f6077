"""A quick origin over TLS and without: it answers everything with a greeting and the request's body, or with a lot."""

import asyncio
import datetime
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

API = "api.example"
PLAIN = "plain.example"
GREETING = bytes(range(256))
LARGE = bytes(16 << 20)
"""The reply where the path ends with `large`."""


class Origin:
    """Serves on a thread of its own until it is closed."""

    def __init__(self, folder: Path) -> None:
        self.roots = folder / "roots.pem"
        chain = write_certificate(folder, self.roots)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.tls_port = self._serve(context)
        self.plain_port = self._serve(None)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _serve(self, context: ssl.SSLContext | None) -> int:
        server = asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        return asyncio.run_coroutine_threadsafe(server, self._loop).result().sockets[0].getsockname()[1]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
            body = LARGE if b"/large http/" in head else GREETING + body
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            for start in range(0, len(body), 1 << 16):
                writer.write(body[start : start + (1 << 16)])
                await writer.drain()
    except (OSError, EOFError):
        writer.close()


def write_certificate(folder: Path, roots: Path) -> Path:
    """Makes a certificate that is its own authority; returns the file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Origin")])
    now = datetime.datetime.now(datetime.timezone.utc)
    hour = datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - hour).not_valid_after(now + hour)
    names = x509.SubjectAlternativeName([x509.DNSName(API)])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    roots.write_bytes(pem)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = folder / "origin.pem"
    chain.write_bytes(pem + secret)
    return chain
