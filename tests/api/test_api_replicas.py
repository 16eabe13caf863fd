"""Two API servers over the same logs give the same answers, even while one is behind the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from api_world import ADMIN, GROUP, Client, World, cluster, node, open_world

from choregos.api.context import ApiLimits
from choregos.api.server import build_app
from choregos.foundation.clock import SystemClock
from choregos.store import resources
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
        stored, agents = LateLog(context.resources._log), LateLog(first.agents_log)
        app = build_app(
            replace(
                context,
                resources=await stack.enter_async_context(ResourceStore(stored, clock)),
                directory=await stack.enter_async_context(Directory(agents, "local", clock)),
            )
        )
        stack.push_async_callback(app.close)
        replicas = Replicas(first, Client(app, ADMIN), (stored, agents))
        stack.callback(replicas.let)
        yield replicas


def certificate(name: str) -> dict[str, Any]:
    return {"subject": ((("commonName", name),),)}


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


async def test_a_list_begun_at_one_goes_on_at_the_other_as_of_the_same_moment(replicas: Replicas) -> None:
    first, second = replicas.first.client, replicas.second
    for number in range(6):
        await first.post(NODES, node(f"n{number}"))
    begun = (await first.get(NODES, limit=2)).json
    await first.delete(f"{NODES}/n4")
    await second.post(NODES, node("n35"))
    rest = (await second.get(NODES, limit=9, **{"continue": begun["metadata"]["continue"]})).json
    assert [item["metadata"]["name"] for item in rest["items"]] == ["n2", "n3", "n4", "n5"]
    assert rest["metadata"]["resourceVersion"] == begun["metadata"]["resourceVersion"]
    exact = {"resourceVersion": begun["metadata"]["resourceVersion"], "resourceVersionMatch": "Exact"}
    assert (await second.get(NODES, **exact)).json == (await first.get(NODES, **exact)).json


async def test_a_list_goes_on_at_a_server_that_does_not_know_its_moment_yet(replicas: Replicas) -> None:
    replicas.hold_back()
    for number in range(3):
        await replicas.first.client.post(NODES, node(f"n{number}"))
    token = (await replicas.first.client.get(NODES, limit=2)).json["metadata"]["continue"]
    reply = await answered_late(replicas, replicas.second.get(NODES, **{"continue": token}))
    assert [item["metadata"]["name"] for item in reply.json["items"]] == ["n2"]


async def test_a_list_that_goes_on_from_the_present_shows_what_was_acknowledged(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "HISTORY_CHANGES_MAX", 2)
    first = replicas.first.client
    for number in range(3):
        await first.post(NODES, node(f"n{number}"))
    token = (await first.get(NODES, limit=1)).json["metadata"]["continue"]
    for number in range(3, 6):
        await first.post(NODES, node(f"n{number}"))
    refused = await replicas.second.get(NODES, **{"continue": token})
    assert refused.code == 410
    replicas.hold_back()
    await first.delete(f"{NODES}/n1")
    present = refused.json["metadata"]["continue"]
    reply = await answered_late(replicas, replicas.second.get(NODES, **{"continue": present}))
    assert [item["metadata"]["name"] for item in reply.json["items"]] == ["n2", "n3", "n4", "n5"]


READING = (
    {},
    {"resourceVersion": "0"},
    {"watch": "true", "resourceVersion": "0", "timeoutSeconds": "1"},
)


@pytest.mark.parametrize("query", READING, ids=str)
@pytest.mark.parametrize("path", [NODES, AGENTS])
async def test_what_was_taken_from_somebody_at_one_is_refused_at_the_other(
    replicas: Replicas, path: str, query: dict[str, str]
) -> None:
    first, somebody = replicas.first.client, replicas.second.as_(certificate("somebody"))
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    binding = {
        "metadata": {"name": "somebody-views"},
        "subjects": [{"kind": "User", "name": "somebody"}],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-reader"},
    }
    rule = {"verbs": ["get", "list", "watch"], "apiGroups": ["*"], "resources": ["*"]}
    role = {"metadata": {"name": "cluster-reader"}, "rules": [rule]}
    assert (await first.post(f"{rbac}/clusterroles", role)).code == 201
    replicas.hold_back()
    assert (await first.post(f"{rbac}/clusterrolebindings", binding)).code == 201
    assert (await answered_late(replicas, somebody.get(path, **query))).code == 200
    replicas.hold_back()
    assert (await first.delete(f"{rbac}/clusterrolebindings/somebody-views")).code == 200
    assert (await answered_late(replicas, somebody.get(path, **query))).code == 403


async def test_the_token_of_an_account_deleted_at_one_is_refused_at_the_other(replicas: Replicas) -> None:
    first, accounts = replicas.first.client, "/api/v1/namespaces/default/serviceaccounts"
    assert (await first.post(accounts, {"metadata": {"name": "robot"}})).code == 201
    token = (await first.post(f"{accounts}/robot/token", {"spec": {}})).json["status"]["token"]
    robot = replicas.second.as_(None).with_headers(authorization=f"Bearer {token}")
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    assert (await robot.post(path, {})).code == 201
    replicas.hold_back()
    assert (await first.delete(f"{accounts}/robot")).code == 200
    assert (await answered_late(replicas, robot.post(path, {}))).code == 401


async def test_who_may_do_everything_and_what_is_the_same_for_all_waits_for_no_rights(replicas: Replicas) -> None:
    replicas.hold_back()
    await replicas.first.client.post(NODES, node("n1"))
    somebody = replicas.second.as_(certificate("somebody"))
    assert (await somebody.get("/apis")).code == 200
    assert (await replicas.second.get(NODES, resourceVersion="0")).code == 200


async def test_a_bookmark_keeps_a_watch_of_little_from_having_to_list_again(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "HISTORY_CHANGES_MAX", 20)
    first = replicas.first.client
    begun = (await first.post(NODES, node("n1", tier="gold"))).json["metadata"]["resourceVersion"]
    golden = {"watch": "true", "labelSelector": "tier=gold"}
    for number in range(30):
        await first.post(NODES, node(f"iron-{number}"))
    quick = build_app(replace(replicas.first.context, limits=ApiLimits(bookmark_s=0.01)))
    async with Client(quick, ADMIN).stream(NODES, **golden, allowWatchBookmarks="true") as stream:
        assert (await stream.line())["type"] == "ADDED"
        bookmark = await stream.line()
    await quick.close()
    assert bookmark["type"] == "BOOKMARK"
    for number in range(15):
        await first.post(NODES, node(f"lead-{number}"))
    await first.post(NODES, node("n2", tier="gold"))
    fresh = bookmark["object"]["metadata"]["resourceVersion"]
    async with replicas.second.stream(NODES, **golden, resourceVersion=fresh) as stream:
        assert (await stream.line())["object"]["metadata"]["name"] == "n2"
    async with replicas.second.stream(NODES, **golden, resourceVersion=begun) as stream:
        assert (await stream.line())["object"]["code"] == 410


async def test_a_server_that_is_too_far_behind_says_so(replicas: Replicas) -> None:
    replicas.hold_back()
    await replicas.first.client.post(NODES, node("n1"))
    reply = await replicas.second.get(f"{NODES}/n1")
    assert reply.code == 503
    assert reply.header("retry-after")
