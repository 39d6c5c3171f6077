"""One set of origins and one gate for the whole run; each test keeps to paths of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import Certificates, write_certificates
from gate import Gate
from greeter import GRPC, Greeter
from origin import API, API_HTTP2, GIT, Origin
from socket_server import SOCKET, SocketServer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="session")
def certificates(folder: Path) -> Certificates:
    return write_certificates(folder, [API, API_HTTP2, GIT, GRPC, SOCKET])


@pytest.fixture(scope="session")
def origin(folder: Path, certificates: Certificates) -> Iterator[Origin]:
    started = Origin(folder / "repositories", certificates)
    yield started
    started.close()


@pytest.fixture(scope="session")
def greeter(certificates: Certificates) -> Iterator[Greeter]:
    started = Greeter(certificates)
    yield started
    started.close()


@pytest.fixture(scope="session")
def sockets(certificates: Certificates) -> Iterator[SocketServer]:
    started = SocketServer(certificates)
    yield started
    started.close()


@pytest.fixture(scope="session")
def gate(
    folder: Path, certificates: Certificates, origin: Origin, greeter: Greeter, sockets: SocketServer
) -> Iterator[Gate]:
    started = Gate(folder, certificates.roots, origin.addresses | greeter.addresses | sockets.addresses)
    yield started
    assert started.stop() == 0
    started.writ("ledger", "verify")


@pytest.fixture
def own() -> str:
    """A path segment that no other test uses."""
    return secrets.token_hex(8)
