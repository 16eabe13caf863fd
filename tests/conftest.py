"""What many tests share: a nats-server per test process, connections to it, and kubectl in each version we promise."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from real_programs import KUBECTL_VERSIONS, kubectl_of

from choregos.foundation.bus.connection import Bus, BusAddress, connect
from choregos.foundation.ids import SystemIds
from choregos.store.backends.jetstream import JetStreamLog
from choregos.testing.nats_server import NatsServer
from choregos.testing.record_log_contract import SUBJECTS

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it runs in the background ignore Ctrl-C, and so would every program that a test presses it in.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Shared by all tests of the process: take names of your own, and do not stop it."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def own_nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """For one test alone, which may kill and start it; as in production every write is on disk before its answer."""
    with NatsServer(tmp_path_factory.mktemp("own-nats"), sync_always=True) as server:
        yield server


@pytest.fixture
def nats_address(nats_server: NatsServer) -> BusAddress:
    return nats_server.address


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    """With user and password."""
    return nats_server.url


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to the shared server."""
    async with connect(nats_server.address, "tests") as bus:
        yield bus


@pytest.fixture
async def jetstream_log(bus: Bus) -> AsyncIterator[JetStreamLog]:
    """A fresh log on the shared server for the subjects of the contract suite; gone after the test."""
    stream = f"TEST_{SystemIds().suffix(10)}"
    async with JetStreamLog(bus, stream) as log:
        await log.provision(SUBJECTS)
        yield log
        await bus.client.jetstream().delete_stream(stream)


@pytest.fixture(scope="session", params=KUBECTL_VERSIONS)
def kubectl_program(request: pytest.FixtureRequest) -> Path:
    """A real kubectl; tests that take it run once with each version."""
    return kubectl_of(request.param)
