"""Guarantee 8: whichever write of the control plane is its last, its successor ends at the same outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from control_world import REGION, SimNode, World, cluster, controllers, memory_world, opened

from choregos.assembly.services.logs import open_logs, provision
from choregos.foundation.bus.connection import connect
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Temporary
from choregos.store.port import Batch, Fence, Record, RecordLog, Write
from choregos.testing.nats_server import NatsServer
from choregos.wire.instances import Phase


class Life:
    """Of one process: its n-th write is stored or not, and it never learns which.

    Args:
        dies: it ends there; else it lives on and has to find out.
    """

    def __init__(self, fatal: int | None = None, *, stored: bool = True, dies: bool = True) -> None:
        self.writes = 0
        self.fatal = fatal
        self.stored = stored
        self.dies = dies
        self.over = asyncio.Event()


class MortalLog:
    """A record log as one process sees it."""

    def __init__(self, log: RecordLog, life: Life) -> None:
        self._log = log
        self._life = life

    async def append(self, write: Write, *, fence: Fence | None = None) -> int:
        return (await self._write([write], fence, single=True))[0]

    async def append_batch(self, writes: Sequence[Write], *, fence: Fence | None = None) -> Sequence[int]:
        return await self._write(writes, fence, single=False)

    async def _write(self, writes: Sequence[Write], fence: Fence | None, *, single: bool) -> Sequence[int]:
        life = self._life
        if life.over.is_set():
            raise Temporary("dead")
        life.writes += 1
        last = life.writes == life.fatal
        if last and life.dies:
            life.over.set()
        if last and not life.stored:
            raise Temporary("dead")
        if single:
            result: Sequence[int] = [await self._log.append(writes[0], fence=fence)]
        else:
            result = await self._log.append_batch(writes, fence=fence)
        if last:
            raise Temporary("dead")
        return result

    async def last(self, subject: str) -> Record | None:
        return await self._log.last(subject)

    async def newest(self) -> int:
        return await self._log.newest()

    def tail(self, subjects: Sequence[str] = (">",), *, after: int = 0) -> AsyncGenerator[Batch, None]:
        return self._log.tail(subjects, after=after)

    async def subjects(self, filter: str = ">") -> frozenset[str]:
        return await self._log.subjects(filter)


class Control:
    """The control plane; when its life is over another one starts."""

    def __init__(self, world: World, life: Life, lease_s: float) -> None:
        self._world = world
        self._lease_s = lease_s
        self._life = life
        self._stack = AsyncExitStack()
        self._replaced = False

    async def __aenter__(self) -> Control:
        await self._start(self._life)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, life: Life) -> None:
        resources_log, region_log, _ = self._world.logs
        context = controllers(self._world, MortalLog(resources_log, life), MortalLog(region_log, life), self._lease_s)
        await self._stack.enter_async_context(context)

    async def until(self, condition: Any, what: str) -> None:
        if not self._replaced:
            await self._world.until(lambda: condition() or self._life.over.is_set(), what)
            if not self._life.over.is_set():
                return
            await self._stack.aclose()
            self._replaced = True
            await self._start(Life())
        await self._world.until(condition, what)


def templates(version: int) -> list[dict[str, Any]]:
    resources = {"cpu": "1", "memory": "64Mi"}
    return [
        {"name": "conversation", "replicas": 5 - version, "resources": resources, "settings": {"version": version}},
        {"name": "knowledge", "replicas": 1 + version, "resources": resources},
    ]


def settled(world: World, agents: int) -> bool:
    return (
        world.condition("agentclusters", "support", "Ready") == "True"
        and world.condition("agentclusters", "support", "Progressing") == "False"
        and len(world.ready()) == len(world.agents()) == agents
    )


def history(world: World) -> list[tuple[str, int]]:
    """Revisions: name, number."""
    return sorted((one["metadata"]["name"], one["revision"]) for one in world.list("controllerrevisions"))


def used(world: World) -> Any:
    """What the quota says."""
    return world.list("resourcequotas")[0]["status"].get("used")


async def scenario(world: World, life: Life, lease_s: float = 15.0) -> list[Any]:
    """Two nodes with four cores each; a cluster is made, changed twice, deleted. Returns what was seen each time."""
    seen: list[Any] = []

    def look(_: object) -> None:
        for name in ("node-a", "node-b"):
            held = [one for one in world.directory.on_node(name) if one.phase is not Phase.STOPPED]
            assert len(held) <= 4, "over-committed"

    async with AsyncExitStack() as stack:
        stack.callback(world.directory.on_change(look))
        for name in ("node-a", "node-b"):
            node = SimNode(world, name, {"cpu": "4", "memory": "8Gi", "agents": "100"})
            await stack.enter_async_context(node)
        control = await stack.enter_async_context(Control(world, life, lease_s))
        await world.create("resourcequotas", {"metadata": {"name": "bound"}, "spec": {"hard": {"cpu": "9"}}})
        manifest = cluster()
        manifest["spec"]["agents"] = templates(1)
        await world.create("agentclusters", manifest)
        await control.until(lambda: settled(world, 6), "six agents are ready")
        await control.until(lambda: used(world) == {"cpu": "6"}, "the quota says so")
        seen.append(sorted(world.agents()))
        await world.change_spec("agentclusters", "support", agents=templates(2))
        await control.until(lambda: settled(world, 6), "the new templates are ready")
        agents = world.agents().values()
        seen.append(sorted((one.record.agent_set, one.record.template) for one in agents))
        seen.append(len({one.record.uid for one in agents}))
        seen.append(history(world))
        await world.change_spec("agentclusters", "support", agents=[{**templates(2)[0], "settings": {"version": 1}}])
        await control.until(lambda: settled(world, 3), "the first template is back")
        await control.until(lambda: len(history(world)) == 2, "the history of a set goes with it")
        seen.append(history(world))
        await world.delete("agentclusters", "support")
        gone = lambda: not world.list("agentclusters") and not history(world)  # noqa: E731
        await control.until(gone, "the cluster is gone")
        await control.until(lambda: used(world) == {"cpu": "0"}, "nothing is used any more")
        seen.append((len(world.agents()), len(world.list("agentsets"))))
    return seen


async def undisturbed() -> tuple[int, list[Any]]:
    """How many writes there are, and the outcome."""
    async with memory_world() as world:
        life = Life()
        outcome = await scenario(world, life)
        return life.writes, outcome


async def test_the_undisturbed_outcome() -> None:
    _, (made, changed, uids, revised, undone, left) = await undisturbed()
    assert made == [
        *(f"support-conversation-{ordinal}" for ordinal in range(4)),
        *(f"support-knowledge-{ordinal}" for ordinal in range(2)),
    ]
    assert [agent_set for agent_set, _ in changed] == ["support-conversation"] * 3 + ["support-knowledge"] * 3
    assert (uids, left) == (6, (0, 0))
    assert [number for _, number in revised] == [1, 2, 1] or [number for _, number in revised] == [2, 1, 1]
    assert sorted(number for _, number in undone) == [2, 3]


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "lost"])
@pytest.mark.parametrize("dies", [True, False], ids=["dies", "lives on"])
async def test_the_outcome_is_the_same_whichever_write_goes_unanswered(stored: bool, dies: bool) -> None:
    writes, outcome = await undisturbed()
    for fatal in range(1, writes + 1):
        async with memory_world() as world:
            life = Life(fatal, stored=stored, dies=dies)
            assert await scenario(world, life) == outcome, f"after write {fatal} of {writes}"


@pytest.mark.real
async def test_the_outcome_is_the_same_on_jetstream(own_nats_server: NatsServer) -> None:
    _, outcome = await undisturbed()
    async with connect(own_nats_server.address, "control") as bus, open_logs(bus, REGION) as logs:
        await provision(logs, REGION)
        for fatal in (9, 16, 23, 30, 37):
            for log in (logs.resources, logs.agents, logs.events):
                await bus.client.jetstream().purge_stream(log.stream)
            async with opened(World(SystemClock(), logs.resources, logs.agents, logs.events)) as world:
                life = Life(fatal, stored=fatal % 2 == 0)
                assert await scenario(world, life, lease_s=0.5) == outcome, f"after write {fatal}"
                assert life.over.is_set()
