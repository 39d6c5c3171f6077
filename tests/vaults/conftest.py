"""One API for the whole run; each module has a gate with the credentials it asks for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import Certificates, write_certificates
from gate import Gate
from openbao import OpenBao
from origin import API, Origin

Start = Callable[..., Gate]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return write_certificates(tmp_path_factory.mktemp("certificates"), [API, "localhost"])


@pytest.fixture(scope="session")
def origin(certificates: Certificates) -> Iterator[Origin]:
    started = Origin(certificates)
    yield started
    started.close()


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, origin: Origin, certificates: Certificates
) -> Iterator[Start]:
    """Starts a gate that lives as long as the module."""
    gates: list[Gate] = []

    def started(
        providers: dict[str, Any], credentials: dict[str, Any], address: str = origin.address, **variables: str
    ) -> Gate:
        folder = tmp_path_factory.mktemp("gate")
        gates.append(Gate(folder, address, certificates, providers, credentials, variables))
        return gates[-1]

    yield started
    for gate in gates:
        gate.stop()


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    started = OpenBao(tmp_path_factory.mktemp("openbao"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")
