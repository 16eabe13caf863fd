"""A region and its fleet over any record log: stores, controllers that can be killed, and nodes that are simulated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from choregos.control.events import EventRecorder
from choregos.control.fleet.controller import FleetController, FleetStores
from choregos.control.region.controller import RegionController, RegionStores
from choregos.foundation.clock import Clock
from choregos.foundation.ids import SeededIds
from choregos.resources import meta
from choregos.resources.registry import by_resource
from choregos.resources.validation import validate
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instance import Instance, InstanceChange
from choregos.store.instances import InstanceWriter
from choregos.store.leases.election import LeaderElection
from choregos.store.leases.heartbeat import Heartbeat
from choregos.store.port import RecordLog
from choregos.store.resources import ResourceStore
from choregos.testing.sim_clock import SimClock
from choregos.wire.instances import DeletionRecord, Phase, StatusRecord

REGION = "local"


class World:
    """What users and nodes see: outlives the controllers."""

    def __init__(self, clock: Clock, resources_log: RecordLog, region_log: RecordLog, events_log: RecordLog) -> None:
        self.clock = clock
        self.ids = SeededIds(7)
        self.logs = (resources_log, region_log, events_log)
        self.resources = ResourceStore(resources_log, clock)
        self.events = ResourceStore(events_log, clock)
        self.directory = Directory(region_log, REGION, clock)
        self.writer = InstanceWriter(region_log, REGION)

    async def until(self, condition: Callable[[], Any], what: str = "", timeout_s: float = 60.0) -> Any:
        """Lets time pass until `condition` is true; returns its value."""
        give_up = self.clock.monotonic() + timeout_s
        while not (value := condition()):
            if self.clock.monotonic() > give_up:
                raise AssertionError(f"not within {timeout_s} s: {what or condition}\n{self.describe()}")
            await self.pass_time(0.05)
        return value

    async def pass_time(self, seconds: float) -> None:
        if isinstance(self.clock, SimClock):
            await self.clock.advance(seconds)
        else:
            await asyncio.sleep(seconds)

    def describe(self) -> str:
        objects = [obj for kind in ("agentclusters", "agentsets", "agentnodes") for obj in self.list(kind)]
        agents = [(one.name, one.record.node, one.phase, one.record.deletion_ms) for one in self.directory.list()][:20]
        return "\n".join(map(str, [*objects, *agents]))

    # Objects, as the API server would write them

    def get(self, resource: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        found = [one for one in self.list(resource) if one["metadata"]["name"] == name]
        return found[0] if found else None

    def list(self, resource: str) -> Sequence[dict[str, Any]]:
        return self.resources.list(resource).items

    async def create(self, resource: str, obj: dict[str, Any]) -> dict[str, Any]:
        kind = by_resource(resource)
        assert kind is not None
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "status": {}, **obj}
        if kind.namespaced:
            obj["metadata"] = {"namespace": "default", **obj["metadata"]}
        validated = validate(kind, meta.created(obj, self.ids.uid(), self.clock.wall_ms()))
        return await self.resources.create(resource, validated.object)

    async def change_spec(self, resource: str, name: str, **changes: Any) -> None:
        while True:
            obj = self.get(resource, name)
            assert obj is not None
            try:
                await self.resources.update(resource, meta.changed(obj, {**obj, "spec": {**obj["spec"], **changes}}))
            except Exception as error:
                if type(error).__name__ != "Conflict":
                    raise
                await asyncio.sleep(0)  # until this world sees what has changed
            else:
                return

    async def delete(self, resource: str, name: str, finalizer: str = "") -> None:
        while True:
            obj = self.get(resource, name)
            assert obj is not None
            doomed = meta.deleting(meta.with_finalizer(obj, finalizer) if finalizer else obj, self.clock.wall_ms())
            try:
                if doomed["metadata"].get("finalizers"):
                    await self.resources.update(resource, doomed)
                else:
                    await self.resources.delete(resource, doomed)
            except Exception as error:
                if type(error).__name__ != "Conflict":
                    raise
                await asyncio.sleep(0)  # until this world sees what has changed
            else:
                return

    async def delete_agent(self, name: str, grace_s: int = 5) -> None:
        uid = self.directory.get("default", name).record.uid
        await self.writer.request_deletion("default", name, DeletionRecord(1, uid, grace_s))

    # What tests ask

    def agents(self) -> dict[str, Instance]:
        return {one.name: one for one in self.directory.list()}

    def ready(self) -> set[str]:
        return {one.name for one in self.directory.list() if one.ready}

    def condition(self, resource: str, name: str, type: str) -> str:
        obj = self.get(resource, name)
        found = meta.condition(obj, type) if obj is not None else None
        if obj is None or found is None or found["observedGeneration"] != meta.generation(obj):
            return ""
        return str(found["status"])

    def message(self, resource: str, name: str, type: str = "Ready") -> str:
        obj = self.get(resource, name)
        found = meta.condition(obj, type) if obj is not None else None
        return "" if found is None else f"{found['reason']}: {found['message']}"

    def reasons(self) -> set[str]:
        return {event["reason"] for event in self.events.list("events").items}

    def event_messages(self, reason: str) -> list[str]:
        return [event["message"] for event in self.events.list("events").items if event["reason"] == reason]


class SimNode:
    """A node that starts what is bound to it at once; an async context manager: leaving it is the node's death.

    Attributes:
        starts: whether agents become ready. stops: whether those that shall end do. refuses: names it rejects.
        fails: name → status (phase, reason, message) of agents that do not become ready.
    """

    def __init__(self, world: World, name: str, allocatable: dict[str, str] | None = None, **spec: Any) -> None:
        self.world = world
        self.name = name
        self.allocatable = {"cpu": "8", "memory": "8Gi", "agents": "10000"} if allocatable is None else allocatable
        self.spec = spec
        self.starts = True
        self.stops = True
        self.fails: dict[str, tuple[Phase, str, str]] = {}
        self.refuses: set[str] = set()
        self._dead = False
        self._stack = AsyncExitStack()
        self._todo: list[Instance] = []
        self._wake = asyncio.Event()

    async def __aenter__(self) -> SimNode:
        from choregos.foundation.tasks import Tasks

        world = self.world
        log = world.logs[1]
        await self._stack.enter_async_context(Heartbeat(log, REGION, f"node-{self.name}", world.ids.uid(), world.clock))
        if world.get("agentnodes", self.name) is None:
            await world.create(
                "agentnodes",
                {
                    "metadata": {"name": self.name},
                    "spec": {"region": REGION, **self.spec},
                    "status": {"allocatable": self.allocatable},
                },
            )
        self._stack.callback(world.directory.on_change(self._changed))
        self._take(world.directory.on_node(self.name))
        tasks = await self._stack.enter_async_context(Tasks())
        tasks.start(self._work(), self.name)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def dies(self) -> None:
        """Looks at nothing any more; its lease ends when the context is left."""
        self._dead = True

    def stop_all(self) -> None:
        self.stops = True
        self._take(self.world.directory.on_node(self.name))

    def start_all(self) -> None:
        self.starts, self.fails = True, {}
        self._take(self.world.directory.on_node(self.name))

    def _changed(self, changes: Sequence[InstanceChange]) -> None:
        self._take([change.instance for change in changes if change.instance.record.node == self.name])

    def _take(self, instances: Sequence[Instance]) -> None:
        self._todo += instances
        self._wake.set()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            todo, self._todo = self._todo, []
            statuses = {one.name: status for one in todo if (status := self._status(one)) is not None}
            if statuses:
                await self.world.writer.put_statuses([("default", *item) for item in statuses.items()])

    def _status(self, seen: Instance) -> StatusRecord | None:
        one = self.world.directory.find(seen.namespace, seen.name)
        if one is None or one.record.node != self.name or self._dead:
            return None
        reason = message = ""
        if one.record.deletion_ms:
            phase, ready = (Phase.STOPPED if self.stops else Phase.STOPPING), False
        elif one.name in self.refuses:
            phase, ready, reason = Phase.REJECTED, False, "OutOfCapacity"
        elif one.name in self.fails:
            (phase, reason, message), ready = self.fails[one.name], False
        else:
            phase, ready = (Phase.RUNNING, True) if self.starts else (Phase.STARTING, False)
        if one.status is not None and (one.status.phase, one.status.ready) == (phase, ready):
            return None
        return StatusRecord(1, one.record.uid, one.record.binding, phase, ready, "host", 0, 0, reason, message)


@asynccontextmanager
async def memory_world() -> AsyncIterator[World]:
    clock = SimClock()
    async with opened(World(clock, MemoryLog(clock), MemoryLog(clock), MemoryLog(clock))) as world:
        yield world


@asynccontextmanager
async def opened(world: World) -> AsyncIterator[World]:
    async with world.resources, world.events, world.directory:
        yield world


@asynccontextmanager
async def controllers(
    world: World,
    resources_log: RecordLog | None = None,
    region_log: RecordLog | None = None,
    lease_s: float = 15.0,
) -> AsyncIterator[None]:
    """The control plane as a process of its own: stores of its own over the same logs."""
    resources_log = resources_log or world.logs[0]
    region_log = region_log or world.logs[1]
    clock, ids, holder = world.clock, world.ids, world.ids.uid()
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(ResourceStore(resources_log, clock))
        events = await stack.enter_async_context(ResourceStore(world.logs[2], clock))
        directory = await stack.enter_async_context(Directory(region_log, REGION, clock))
        recorder = await stack.enter_async_context(EventRecorder(events, clock, ids, "control"))
        writer = InstanceWriter(region_log, REGION)
        fleet = LeaderElection(resources_log, "fleet", "fleet", holder, clock, duration_s=lease_s)
        region = LeaderElection(region_log, REGION, "region", holder, clock, duration_s=lease_s)
        await stack.enter_async_context(FleetController(FleetStores(resources, recorder, events), fleet, clock, ids))
        stores = RegionStores(resources, recorder, region_log, directory, writer, resources_log)
        await stack.enter_async_context(RegionController(stores, region, clock, ids))
        yield


def agent_set(name: str = "work", replicas: int = 3, **spec: Any) -> dict[str, Any]:
    template = {"name": "worker", "resources": {"cpu": "100m", "memory": "64Mi"}, **spec.pop("template", {})}
    return {"metadata": {"name": name}, "spec": {"replicas": replicas, "template": template, **spec}}


def cluster(name: str = "support", **replicas: int) -> dict[str, Any]:
    agents = [{"name": template, "replicas": count} for template, count in replicas.items()]
    return {"metadata": {"name": name}, "spec": {"agents": agents}}
