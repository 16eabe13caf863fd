"""Workers of a node call each other directly: without the bus, with prompt news of a death, and tidily."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from choregos.foundation.errors import HandlerFailed

pytestmark = pytest.mark.real


class Proxy:
    """Between workers and nats-server, until it is closed."""

    def __init__(self, server: str) -> None:
        self._target = urlsplit(server)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._tasks.append(asyncio.ensure_future(_pump(source, sink)))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
    sink.transport.abort()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "sockets"


@pytest.fixture
def callers(sample):
    """Has `ada` and `bob` live in two workers, which meet in the stage's directory."""

    async def start(stage, *, dedicated: bool = False):
        stage.assign(sample("Caller", module="calling_agents"), "ada", "bob", dedicated=dedicated)
        await stage.until_running("ada", "bob")
        assert stage.statuses["ada"].host != stage.statuses["bob"].host

    return start


async def until(condition) -> None:
    async with asyncio.timeout(30.0):
        while not condition():
            await asyncio.sleep(0.01)


async def test_calls_between_workers_go_on_without_the_bus(nats_address, open_stage, callers, directory, tmp_path):
    """The test's own calls need it, so `ada` is told beforehand; a proxy stands for a bus that goes away."""
    async with (
        Proxy(nats_address.servers[0]) as proxy,
        open_stage(workers=2, sockets=directory, servers=(proxy.url,)) as stage,
    ):
        await callers(stage)
        number = await stage.call("bob", "process")
        await stage.call("ada", "ask_when", agent="bob", exists=str(tmp_path / "go"), answer=str(tmp_path / "said"))
        await proxy.close()
        (tmp_path / "go").touch()
        await until((tmp_path / "said").exists)
        assert (tmp_path / "said").read_text() == str(number)


@pytest.mark.parametrize("by_socket", [True, False], ids=["by socket", "over the bus"])
async def test_who_waits_for_a_worker_that_is_killed_is_told_at_once_and_finds_the_next(
    open_stage, callers, directory, by_socket
):
    async with open_stage(workers=2, sockets=directory if by_socket else None) as stage:
        await callers(stage)
        killed = await stage.call("ada", "ask", agent="bob", method="process")
        call = stage.call("ada", "ask", agent="bob", method="slow", seconds=1000.0, timeout_s=1000.0)
        waiting = asyncio.ensure_future(call)
        async with asyncio.timeout(30.0):
            while not (await stage.log("bob")).lines:
                await asyncio.sleep(0.01)
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(HandlerFailed, match="may have begun") as told:
            async with asyncio.timeout(30.0):
                await waiting
        assert told.value.remote_type == "HostLost"
        await stage.until_running("bob", restarts=1)
        assert await stage.call("ada", "ask", agent="bob", method="process") not in (killed, 0)
        assert not by_socket or len(list(directory.iterdir())) == 2


async def test_a_worker_that_is_not_ready_yet_has_no_routes_to_forget(open_stage, sample):
    async with open_stage() as stage:
        stage.assign(sample("Greeter"), "ada", "bob", "cem", dedicated=True)
        async with asyncio.timeout(30.0):
            while not all(map(stage.is_running, ("ada", "bob", "cem"))):
                stage.host.invalidate(("a-host-that-is-gone",))
                await asyncio.sleep(0.001)
        assert stage.events == []


async def test_nothing_is_left_of_a_host_that_has_ended(open_stage, callers, directory):
    directory.mkdir()
    (directory / "of one that was killed").touch()
    async with open_stage(sockets=directory) as stage:
        await callers(stage, dedicated=True)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert len(list(directory.iterdir())) == 2
        stage.withdraw("bob")
        await until(lambda: len(list(directory.iterdir())) == 1)
    assert not directory.exists()


async def test_a_directory_that_cannot_be_made_leaves_the_bus(open_stage, callers, tmp_path):
    (tmp_path / "file").touch()
    async with open_stage(workers=2, sockets=tmp_path / "file" / "sockets") as stage:
        await callers(stage)
        assert await stage.call("ada", "ask", agent="bob", method="process") > 0
