"""Two API servers over the same logs give the same answers, even while one is behind the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from api_world import ADMIN, GROUP, Client, World, cluster, node, open_world

from choregos.api.server import build_app
from choregos.foundation.clock import SystemClock
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.port import Batch
from choregos.store.resources import ResourceStore


class LateLog:
    """Another reader's and writer's view of a log: news of it come when they are let."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.news = asyncio.Event()
        self.news.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def tail(self, subjects: Sequence[str] = (">",), *, after: int = 0) -> AsyncGenerator[Batch, None]:
        async with aclosing(self._log.tail(subjects, after=after)) as batches:
            async for batch in batches:
                await self.news.wait()
                yield batch


@dataclass
class Replicas:
    first: World
    second: Client
    logs: tuple[LateLog, ...]

    def hold_back(self) -> None:
        """From now on the second server sees nothing new."""
        for log in self.logs:
            log.news.clear()

    def let(self) -> None:
        for log in self.logs:
            log.news.set()


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    async with _open() as opened:
        yield opened


@asynccontextmanager
async def _open() -> AsyncIterator[Replicas]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_world())
        context = first.context
        resources, agents = LateLog(context.resources._log), LateLog(first.agents_log)
        app = build_app(
            replace(
                context,
                resources=await stack.enter_async_context(ResourceStore(resources, clock)),
                directory=await stack.enter_async_context(Directory(agents, "local", clock)),
            )
        )
        stack.push_async_callback(app.close)
        replicas = Replicas(first, Client(app, ADMIN), (resources, agents))
        stack.callback(replicas.let)
        yield replicas


NODES = f"{GROUP}/agentnodes"
CLUSTERS = f"{GROUP}/namespaces/default/agentclusters"
AGENTS = f"{GROUP}/namespaces/default/agents"


async def answered_late(replicas: Replicas, question: Any) -> Any:
    """The answer of the second server, which has to wait until it knows."""
    asked = asyncio.ensure_future(question)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not asked.done(), "it answered before it could know"
    replicas.let()
    return await asked


async def test_who_writes_to_one_reads_it_from_the_other(replicas: Replicas) -> None:
    replicas.hold_back()
    assert (await replicas.first.client.post(NODES, node("n1"))).code == 201
    reply = await answered_late(replicas, replicas.second.get(f"{NODES}/n1"))
    assert reply.code == 200
    replicas.hold_back()
    assert (await replicas.first.client.delete(f"{NODES}/n1")).code == 200
    reply = await answered_late(replicas, replicas.second.get(NODES))
    assert reply.json["items"] == []


async def test_who_asks_for_any_version_is_not_kept_waiting(replicas: Replicas) -> None:
    replicas.hold_back()
    await replicas.first.client.post(NODES, node("n1"))
    reply = await replicas.second.get(NODES, resourceVersion="0")
    assert reply.code == 200
    assert reply.json["items"] == []


async def test_a_change_is_made_on_what_the_other_has_stored(replicas: Replicas) -> None:
    replicas.hold_back()
    await replicas.first.client.post(CLUSTERS, cluster())
    reply = await answered_late(
        replicas, replicas.second.patch(f"{CLUSTERS}/support", {"metadata": {"labels": {"a": "b"}}})
    )
    assert reply.code == 200
    seen = await replicas.first.client.get(f"{CLUSTERS}/support")
    assert seen.json == reply.json
    replicas.hold_back()
    await replicas.first.client.delete(f"{CLUSTERS}/support")
    await replicas.first.client.patch(f"{CLUSTERS}/support", {"metadata": {"finalizers": []}})
    reply = await answered_late(replicas, replicas.second.delete(f"{CLUSTERS}/support"))
    assert reply.code in (200, 404)


async def test_a_namespace_made_at_one_takes_objects_at_the_other(replicas: Replicas) -> None:
    replicas.hold_back()
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    assert (await replicas.first.client.post("/api/v1/namespaces", namespace)).code == 201
    posted = replicas.second.post(f"{GROUP}/namespaces/team/agentclusters", cluster())
    assert (await answered_late(replicas, posted)).code == 201
    replicas.hold_back()
    await replicas.first.client.post("/api/v1/namespaces", {**namespace, "metadata": {"name": "other"}})
    call = {"apiVersion": "choregos.dev/v1", "kind": "AgentCall", "spec": {"agent": "a-0", "method": "echo"}}
    reply = await answered_late(replicas, replicas.second.post(f"{GROUP}/namespaces/other/agentcalls", call))
    assert reply.code == 201


async def test_agents_are_the_same_at_both(replicas: Replicas) -> None:
    replicas.hold_back()
    await replicas.first.start_agents(3)
    reply = await answered_late(replicas, replicas.second.get(AGENTS))
    first = await replicas.first.client.get(AGENTS)
    assert reply.json == first.json


async def test_a_watch_that_names_no_version_begins_at_the_present(replicas: Replicas) -> None:
    await replicas.first.client.post(NODES, node("n1"))
    async with replicas.second.stream(NODES, watch="true") as stream:
        assert (await stream.line())["object"]["metadata"]["name"] == "n1"


async def test_a_server_that_is_too_far_behind_says_so(replicas: Replicas) -> None:
    replicas.hold_back()
    await replicas.first.client.post(NODES, node("n1"))
    reply = await replicas.second.get(f"{NODES}/n1")
    assert reply.code == 503
    assert reply.header("retry-after")
