"""One gate with its default limits for all floods; each flood is an agent of its own."""

import os
import resource
from collections.abc import Iterator

import pytest

from gate import Gate
from healthy import Healthy, p99
from origin import Origin


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("floods")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if os.geteuid() == 0:
        # For the origin and the healthy client; the gate has to do without.
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    origin = Origin(folder)
    started = Gate(folder, origin)
    yield started
    assert started.stop() == 0
    started.writ("ledger", "verify")
    origin.close()


@pytest.fixture(scope="session")
def healthy(gate: Gate) -> Healthy:
    return Healthy(gate.port, gate.add_agent("healthy"), str(gate.home / "ca-bundle.pem"))


@pytest.fixture(scope="session")
def quiet(gate: Gate, healthy: Healthy) -> float:
    """How long the healthy client waits while nothing else happens, at the 99th percentile, in seconds."""
    healthy.measure(1)
    return p99(healthy.measure(10))
