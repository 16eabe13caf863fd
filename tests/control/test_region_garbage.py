"""What nothing refers to is removed, and nothing else, whatever is written meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random

import msgspec
import pytest
from control_world import SimNode, agent_set, controllers, memory_world

from choregos.control.region.agents import FencedAgents
from choregos.control.region.census import Census
from choregos.foundation.errors import Conflict
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence, Record, Write
from choregos.testing.sim_clock import SimClock
from choregos.wire.instances import AgentRecord, Phase, StatusRecord

NAMES = [f"work-{ordinal}" for ordinal in range(4)]


def status(uid: str, binding: int = 1) -> StatusRecord:
    return StatusRecord(1, uid, binding, Phase.STOPPED, False, "", 0, 0)


class SlowLog:
    """A log as somebody sees it whose questions and writes are under way while others write."""

    def __init__(self, log: MemoryLog, dice: random.Random) -> None:
        self._log = log
        self._dice = dice

    async def append(self, write: Write, *, fence: Fence | None = None) -> int:
        await self._pause()
        return await self._log.append(write, fence=fence)

    async def last(self, subject: str) -> Record | None:
        await self._pause()
        found = await self._log.last(subject)
        await self._pause()
        return found

    async def _pause(self) -> None:
        for _ in range(self._dice.randrange(12)):
            await asyncio.sleep(0)


async def statuses(log: MemoryLog) -> dict[str, str]:
    """Name → uid of every status in the log."""
    found = {}
    for name in NAMES:
        record = await log.last(f"as.local.default.{name}")
        if record is not None and not record.tombstone:
            found[name] = msgspec.msgpack.decode(record.data, type=StatusRecord).uid
    return found


async def test_a_status_that_came_after_its_agents_end_is_removed() -> None:
    async with memory_world() as world, controllers(world), SimNode(world, "node-a"):
        await world.create("agentsets", agent_set(replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
        gone = world.agents()["work-1"].record
        await world.change_spec("agentsets", "work", replicas=1)
        await world.until(lambda: len(world.agents()) == 1)
        await world.writer.put_statuses([("default", "work-1", status(gone.uid, gone.binding))])
        living = world.agents()["work-0"].record.uid
        assert await statuses(world.logs[1]) == {"work-0": living, "work-1": gone.uid}
        await world.pass_time(301)
        assert await statuses(world.logs[1]) == {"work-0": living}
        assert len(world.ready()) == 1


class Life:
    """Agents that come and go while their node talks late and a sweep goes on.

    Attributes:
        living: name → uid. said: name → uid of what was said last. seen: what the node may yet say.
    """

    def __init__(self, log: MemoryLog, directory: Directory, fence: Fence, dice: random.Random) -> None:
        self.leader = InstanceWriter(log, "local")
        self.node = InstanceWriter(log, "local")
        self.directory = directory
        self.fence = fence
        self.dice = dice
        self.living: dict[str, str] = {}
        self.said: dict[str, str] = {}
        self.seen: list[tuple[str, str]] = []
        self.uids = 0

    async def step(self) -> None:
        name = self.dice.choice(NAMES)
        match self.dice.choice(["come", "go", "see", "say", "wait"]):
            case "come" if name not in self.living:
                self.uids += 1
                uid = f"u{self.uids}"
                record = AgentRecord(1, uid, "work", "s", "t", "node-a", 1, 1)
                await self.leader.create_agents([("default", name, record)], self.fence)
                self.living[name] = uid
            case "go" if name in self.living:
                await self.directory.wait_for(self.leader.revision)
                instance = self.directory.get("default", name)
                await self.leader.remove_agents([instance], self.fence)
                del self.living[name]
                self.said.pop(name, None)
            case "see" if name in self.living:
                self.seen.append((name, self.living[name]))
            case "say" if self.seen:
                about, uid = self.seen.pop(self.dice.randrange(len(self.seen)))
                await self.node.put_statuses([("default", about, status(uid))])
                self.said[about] = uid
            case "wait":
                for _ in range(self.dice.randrange(40)):
                    await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(20))
async def test_no_status_of_a_living_agent_is_ever_removed(seed: int) -> None:
    clock, dice = SimClock(), random.Random(seed)
    log = MemoryLog(clock)
    epoch = await log.append(Write("al.local.region.epoch", b""))
    fence = Fence("al.local.region.fence", "al.local.region.epoch", epoch)
    sweeper = InstanceWriter(SlowLog(log, dice), "local")  # type: ignore[arg-type]
    removed = 0

    async def sweep() -> None:
        nonlocal removed
        while True:
            for name in NAMES:  # which of them have no agent is found out each time, whatever a directory says
                with contextlib.suppress(Conflict):
                    removed += await sweeper.remove_stray_status("default", name, fence)
            await asyncio.sleep(0)

    async with Directory(log, "local", clock) as directory:
        life = Life(log, directory, fence, dice)
        sweeping = asyncio.ensure_future(sweep())
        for _ in range(600):
            await life.step()
            expected = {name: uid for name, uid in life.said.items() if life.living.get(name) == uid}
            assert expected.items() <= (await statuses(log)).items(), f"seed {seed}"
        sweeping.cancel()
        await asyncio.wait([sweeping])
        assert removed, f"seed {seed} has no strays"
        await directory.wait_for(max(life.leader.revision, life.node.revision))
        agents = FencedAgents(directory, life.leader, fence, Census(lambda *_: {}, lambda _: None), clock)
        await agents.remove_stray_statuses()
        assert set(await statuses(log)) <= set(life.living), f"seed {seed}"
        assert not directory.strays()
        assert all(directory.find("default", name) is not None for name in life.living)
