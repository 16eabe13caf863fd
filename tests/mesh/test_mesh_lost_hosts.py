"""When a host counts as lost: no agent of the directory is in it any more, and that for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from choregos.mesh.lost_hosts import LostHosts
from choregos.resources.templates import canonical_digest
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence
from choregos.testing.sim_clock import SimClock
from choregos.wire.instances import VERSION, AgentRecord, Phase, StatusRecord, TemplateRecord
from choregos.wire.subjects import epoch_subject, fence_subject

FENCE = Fence(fence_subject("local", "region"), epoch_subject("local", "region"), 0)


class Region:
    """A directory that tests fill, and what was told of it."""

    def __init__(self) -> None:
        clock = SimClock()
        log = MemoryLog(clock)
        self.directory = Directory(log, "local", clock)
        self.told: list[str] = []
        self._news = asyncio.Event()
        self._writer = InstanceWriter(log, "local")

    def on_lost(self, hosts: Sequence[str]) -> None:
        self.told += hosts
        self._news.set()

    async def until_told(self, *hosts: str) -> None:
        async with asyncio.timeout(10.0):
            while not set(hosts) <= set(self.told):
                self._news.clear()
                await self._news.wait()

    async def add(self, *names: str, host: str) -> None:
        digest, encoded = canonical_digest({"name": "worker"})
        records = [
            ("default", name, AgentRecord(VERSION, f"uid-{name}", "s", "uid-s", digest, "n1", 1, 0)) for name in names
        ]
        await self._writer.put_templates([("default", TemplateRecord(VERSION, digest, encoded))], FENCE)
        await self._writer.create_agents(records, FENCE)
        await self.put(*names, host=host)

    async def put(self, *names: str, host: str, binding: int = 1) -> None:
        phase = Phase.RUNNING if host else Phase.BACKOFF
        statuses = [
            ("default", name, StatusRecord(VERSION, f"uid-{name}", binding, phase, bool(host), host, 0, 0))
            for name in names
        ]
        await self._writer.put_statuses(statuses)
        await self.directory.wait_for(self._writer.revision)

    async def remove(self, name: str) -> None:
        await self._writer.remove_agents([self.directory.get("default", name)], FENCE)
        await self.directory.wait_for(self._writer.revision)


@pytest.fixture
async def region() -> AsyncIterator[Region]:
    region = Region()
    async with region.directory:
        lost = LostHosts(region.directory, region.on_lost)
        yield region
        lost.close()


async def test_a_host_is_lost_with_the_last_of_its_agents(region: Region) -> None:
    await region.add("a", "b", host="h1")
    await region.add("c", host="h2")
    await region.put("a", host="")
    assert region.directory.has_host("h1")
    await region.put("b", host="h2")
    await region.until_told("h1")
    assert region.told == ["h1"]


async def test_an_agent_that_is_removed_is_in_its_host_no_more(region: Region) -> None:
    await region.add("a", host="h1")
    await region.remove("a")
    await region.until_told("h1")


async def test_a_status_that_comes_back_was_never_a_loss(region: Region) -> None:
    """A late word of an old binding hides the status that counts until it is written again."""
    await region.add("a", host="h1")
    await region.add("b", host="h2")
    await region.put("a", host="h0", binding=0)
    assert not region.directory.has_host("h1")
    await region.put("a", host="h1")
    await region.put("b", host="")
    await region.until_told("h2")
    assert region.told == ["h2"]


async def test_every_one_of_many_is_told_once(region: Region) -> None:
    names = [f"a{number}" for number in range(20)]
    for name in names:
        await region.add(name, host=f"h-{name}")
    for name in names:
        await region.put(name, host="h")
        await asyncio.sleep(0.01)
    await region.until_told(*(f"h-{name}" for name in names))
    assert len(region.told) == len(names)
