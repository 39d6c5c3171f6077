"""One origin and one gate for the whole run; each test keeps to paths of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate import Gate
from origin import Origin


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="session")
def origin(folder: Path) -> Iterator[Origin]:
    started = Origin(folder)
    yield started
    started.close()


@pytest.fixture(scope="session")
def gate(folder: Path, origin: Origin) -> Iterator[Gate]:
    started = Gate(folder, origin)
    yield started
    assert started.stop() == 0
    started.writ("ledger", "verify")


@pytest.fixture
def own() -> str:
    """A path segment that no other test uses."""
    return secrets.token_hex(8)
