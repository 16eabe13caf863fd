"""Guarantee 7: no plan, and no record, puts more on a node than it can allocate, whatever happens at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from random import Random

from control_world import SimNode, World, agent_set, controllers, memory_world
from hypothesis import given, settings
from hypothesis import strategies as st

from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary
from choregos.store.port import Batch, Fence, Record, RecordLog, Write
from choregos.wire.instances import Phase, StatusRecord

PLACES = {"node-a": 4, "node-b": 3, "node-c": 3}
SETS = ("red", "green", "blue")


class SlowLog:
    """Takes its time for each write and each read, stores some writes without an answer, and loses others."""

    def __init__(self, log: RecordLog, clock: Clock, random: Random) -> None:
        self._log = log
        self._clock = clock
        self._random = random

    async def append(self, write: Write, *, fence: Fence | None = None) -> int:
        return await self._log.append(write, fence=fence)

    async def append_batch(self, writes: Sequence[Write], *, fence: Fence | None = None) -> Sequence[int]:
        if fence is None:
            return await self._log.append_batch(writes)  # an election
        await self._clock.sleep(self._random.uniform(0, 0.3))
        fate = self._random.random()
        if fate < 0.1:
            raise Temporary("lost")
        sequences = await self._log.append_batch(writes, fence=fence)
        if fate < 0.2:
            raise Temporary("stored, and nobody knows")
        await self._clock.sleep(self._random.uniform(0, 0.3))
        return sequences

    async def last(self, subject: str) -> Record | None:
        return await self._log.last(subject)

    async def newest(self) -> int:
        return await self._log.newest()

    async def tail(self, subjects: Sequence[str] = (">",), *, after: int = 0) -> AsyncGenerator[Batch, None]:
        async with aclosing(self._log.tail(subjects, after=after)) as batches:
            async for batch in batches:
                await self._clock.sleep(self._random.uniform(0, 0.1))
                yield batch

    async def subjects(self, filter: str = ">") -> frozenset[str]:
        return await self._log.subjects(filter)

    async def purge(self, subject: str) -> None:
        await self._log.purge(subject)


async def noise(world: World, random: Random) -> None:
    """Nodes say all sorts of things of the agents they have."""
    statuses = []
    for one in world.directory.list():
        if one.record.node and random.random() < 0.7:
            phase = random.choice([Phase.STARTING, Phase.RUNNING, Phase.BACKOFF])
            ready = phase is Phase.RUNNING
            restarts = random.randrange(9)
            record = StatusRecord(1, one.record.uid, one.record.binding, phase, ready, "noise", restarts, 0)
            statuses.append((one.namespace, one.name, record))
    if statuses:
        await world.writer.put_statuses(statuses)


async def act(world: World, random: Random) -> None:
    """Somebody declares something else."""
    match random.randrange(4):
        case 0:
            await world.change_spec("agentsets", random.choice(SETS), replicas=random.randrange(8))
        case 1:
            taints = [{"key": "x", "effect": "NoExecute"}] if random.random() < 0.5 else []
            await world.change_spec("agentnodes", random.choice(list(PLACES)), taints=taints)
        case 2:
            name = random.choice(SETS)
            template = {"name": "worker", "resources": {"cpu": "1"}, "settings": {"version": random.randrange(3)}}
            await world.change_spec("agentsets", name, template=template)
        case 3:
            agents = sorted(world.agents())
            if agents:
                await world.delete_agent(random.choice(agents))


async def scenario(seed: int) -> None:
    random = Random(seed)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(memory_world())

        too_many: list[tuple[str, int]] = []

        def look(_: object) -> None:
            held = Counter(one.record.node for one in world.directory.list())
            too_many.extend((node, held[node]) for node, places in PLACES.items() if held[node] > places)

        resources_log, region_log, _ = world.logs
        stack.callback(world.directory.on_change(look))
        for name, places in PLACES.items():
            allocatable = {"cpu": str(places), "memory": "8Gi", "agents": "100"}
            await stack.enter_async_context(SimNode(world, name, allocatable))
        slow = SlowLog(region_log, world.clock, random)
        context = controllers(world, resources_log, slow)
        opening = asyncio.ensure_future(stack.enter_async_context(context))
        await world.until(opening.done)
        opening.result()
        for name in SETS:
            await world.create("agentsets", agent_set(name, replicas=3, template={"resources": {"cpu": "1"}}))
        for _ in range(40):
            if random.random() < 0.4:
                await act(world, random)
            await noise(world, random)
            await world.pass_time(random.choice([0.05, 0.1, 0.3, 1.0]))
            assert not too_many, world.describe()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_node_is_given_more_than_it_can_allocate(seed: int) -> None:
    asyncio.run(scenario(seed))
