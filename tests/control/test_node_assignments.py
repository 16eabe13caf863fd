"""What a node hands to its host: what is bound here and fits, and nothing else; and what it says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from control_world import REGION, World, memory_world

from choregos.agent.contract import Assignment, HostEvent, HostStatus
from choregos.control.events import EventRecorder
from choregos.control.node.agent_node import NodeSettings
from choregos.control.node.controller import NodeController, NodeStores
from choregos.control.node.events import HostEvents
from choregos.control.node.statuses import MESSAGE_BYTES_MAX, StatusReporter
from choregos.foundation.errors import Temporary
from choregos.resources.quantity import parse_all
from choregos.resources.templates import canonical_digest
from choregos.store.leases.election import LeaderElection
from choregos.store.port import Fence
from choregos.wire.instances import AgentRecord, Phase, StatusRecord, TemplateRecord

NODE = "node-a"
TEMPLATE = {"name": "worker", "resources": {"cpu": "1", "memory": "64Mi"}, "labels": {"tier": "gold"}}


class FakeHost:
    """Starts and stops what it is told at once, unless it is `slow`."""

    def __init__(self, statuses: StatusReporter) -> None:
        self.statuses = statuses
        self.running: dict[str, Assignment] = {}
        self.graces: dict[str, float] = {}
        self.slow = False

    def assign(self, assignments: Sequence[Assignment]) -> None:
        self.running |= {one.uid: one for one in assignments}
        self.statuses.report([self._status(one, Phase.RUNNING) for one in assignments])

    def withdraw(self, uids: Iterable[str], grace_s: float) -> None:
        for uid in uids:
            self.graces[self.running[uid].name] = grace_s
        if not self.slow:
            self.stop(*uids)

    def stop(self, *uids: str) -> None:
        self.statuses.report([self._status(self.running.pop(uid), Phase.STOPPED) for uid in uids])

    def names(self) -> set[str]:
        return {one.name for one in self.running.values()}

    @staticmethod
    def _status(one: Assignment, phase: Phase) -> HostStatus:
        ready = phase is Phase.RUNNING
        return HostStatus(one.namespace, one.name, one.uid, one.binding, phase, ready, "w1", one.restarts, 0)


class Leader:
    """Writes agent records as a region's leader would."""

    def __init__(self, world: World, fence: Fence) -> None:
        self.world = world
        self.fence = fence

    async def create(self, *names: str, node: str = NODE, template: dict[str, Any] = TEMPLATE) -> None:
        digest, encoded = canonical_digest(template)
        await self.world.writer.put_templates([("default", TemplateRecord(1, digest, encoded))], self.fence)
        records = [
            ("default", name, AgentRecord(1, f"uid-{name}", "work", "set-uid", digest, node, 1, 1)) for name in names
        ]
        await self.world.writer.create_agents(records, self.fence)
        await self.seen()

    async def change(self, name: str, **fields: object) -> None:
        one = self.world.directory.get("default", name)
        record = msgspec.structs.replace(one.record, **fields)
        await self.world.writer.update_agents([(one, record)], self.fence)
        await self.seen()

    async def remove(self, name: str) -> None:
        await self.world.writer.remove_agents([self.world.directory.get("default", name)], self.fence)
        await self.seen()

    async def seen(self) -> None:
        await self.world.directory.wait_for(self.world.writer.revision)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world:
        yield world


@pytest.fixture
async def leader(world: World) -> Leader:
    election = LeaderElection(world.logs[1], REGION, "region", "test", world.clock)
    fence = await election._acquire()
    assert fence is not None
    return Leader(world, fence)


@asynccontextmanager
async def running_node(world: World, boot_id: str = "boot-1") -> AsyncIterator[FakeHost]:
    """A node with three cores."""
    declared = parse_all({"cpu": "3", "memory": "1Gi", "gpu": "0", "agents": "10"})
    settings = NodeSettings(NODE, REGION, boot_id, declared)
    stores = NodeStores(world.resources, world.logs[1], world.directory)
    async with StatusReporter(NODE, world.directory, world.writer, world.clock) as statuses:
        host = FakeHost(statuses)
        async with NodeController(settings, stores, host, statuses, clock=world.clock, ids=world.ids) as controller:
            host.controller = controller  # type: ignore[attr-defined]
            yield host


async def test_the_node_registers_what_it_has(world: World) -> None:
    async with running_node(world):
        node = world.get("agentnodes", NODE)
        assert node["status"]["capacity"] == {"cpu": "3", "memory": "1Gi", "gpu": "0", "agents": "10"}
        assert node["status"]["allocatable"] == node["status"]["capacity"]
        assert node["status"]["nodeInfo"]["bootID"] == "boot-1"
        assert node["metadata"]["labels"] == {"choregos.dev/node": NODE}


async def test_an_existing_node_keeps_cordon_taints_and_conditions(world: World) -> None:
    async with running_node(world):
        pass
    await world.change_spec("agentnodes", NODE, unschedulable=True)
    async with running_node(world, "boot-2"):
        node = world.get("agentnodes", NODE)
        assert node["spec"]["unschedulable"] is True
        assert node["status"]["nodeInfo"]["bootID"] == "boot-2"


async def test_agents_bound_here_run_and_others_do_not(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        await leader.create("a-0", "a-1")
        await leader.create("b-0", node="node-b")
        assert host.names() == {"a-0", "a-1"}
        await world.until(lambda: world.ready() == {"a-0", "a-1"})
        assignment = host.running["uid-a-0"]
        assert assignment.template.entry_point == "worker"
        assert assignment.template.labels == (("tier", "gold"),)
        assert not assignment.dedicated
        assert assignment.grace_s == 30
        await world.until(lambda: world.get("agentnodes", NODE)["status"]["allocated"]["cpu"] == "2")
        assert world.get("agentnodes", NODE)["status"]["agents"] == 2


async def test_a_deleted_agent_drains_for_its_grace_and_then_frees_its_place(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        await leader.create("a-0", "a-1", "a-2")
        host.slow = True
        await leader.change("a-0", deletion_ms=1, grace_s=7)
        assert host.graces == {"a-0": 7}
        await leader.create("a-3")
        await world.until(lambda: world.agents()["a-3"].phase is Phase.REJECTED)
        assert world.agents()["a-3"].status.reason == "OutOfCapacity"
        assert world.agents()["a-3"].status.message == "asked for 1 cpu, 0 of 3 are free"
        host.stop("uid-a-0")
        await world.until(lambda: world.agents()["a-0"].phase is Phase.STOPPED)
        await leader.change("a-3", binding=2)
        assert host.names() == {"a-1", "a-2", "a-3"}


async def test_an_agent_that_drains_can_be_left_less_time_and_not_more(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        await leader.create("a-0")
        host.slow = True
        await leader.change("a-0", deletion_ms=1, grace_s=1000)
        await world.pass_time(30)
        await leader.change("a-0", grace_s=100)
        assert 60 <= host.graces["a-0"] <= 70
        await leader.change("a-0", grace_s=500)
        await world.pass_time(1)
        assert 60 <= host.graces["a-0"] <= 70
        await leader.change("a-0", grace_s=5)
        assert host.graces == {"a-0": 0}


async def test_a_refusal_is_said_once(world: World, leader: Leader) -> None:
    async with running_node(world):
        await leader.create("a-0", "a-1", "a-2", "a-3")
        await world.until(lambda: sorted(one.phase for one in world.agents().values()).count(Phase.REJECTED) == 1)
        revision = world.directory.revision
        await world.pass_time(5)
        assert [one for one in world.agents().values() if one.revision > revision] == []


async def test_an_agent_that_is_bound_elsewhere_or_gone_is_let_go(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        await leader.create("a-0", "a-1", "a-2")
        await leader.change("a-0", node="node-b", binding=2)
        await leader.remove("a-1")
        assert host.names() == {"a-2"}
        await world.pass_time(1)
        assert world.agents()["a-0"].status is None


async def test_a_new_binding_here_replaces_the_running_one(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        await leader.create("a-0")
        await leader.change("a-0", binding=2)
        assert host.running["uid-a-0"].binding == 2
        await world.until(lambda: world.ready() == {"a-0"})


async def test_after_a_restart_nothing_passes_for_running_and_counts_go_on(world: World, leader: Leader) -> None:
    await leader.create("a-0", "a-1", "gone")
    stale = [
        ("default", name, StatusRecord(1, f"uid-{name}", 1, Phase.RUNNING, True, "old", 4, 0))
        for name in ("a-0", "gone")
    ]
    await world.writer.put_statuses(stale)
    await leader.change("gone", deletion_ms=1)
    async with running_node(world) as host:
        assert host.names() == {"a-0", "a-1"}
        assert (host.running["uid-a-0"].restarts, host.running["uid-a-0"].started) == (4, True)
        assert not host.running["uid-a-1"].started
        await world.until(lambda: world.ready() == {"a-0", "a-1"})
        await world.until(lambda: world.agents()["gone"].phase is Phase.STOPPED)


async def test_statuses_wait_for_the_log_and_only_the_last_is_written(world: World, leader: Leader) -> None:
    await leader.create("a-0")
    put, calls = world.writer.put_statuses, []

    async def failing(statuses: Sequence[tuple[str, str, StatusRecord]]) -> None:
        calls.append(len(statuses))
        if len(calls) < 4:
            raise Temporary("away")
        await put(statuses)

    world.writer.put_statuses = failing  # type: ignore[method-assign]
    async with StatusReporter(NODE, world.directory, world.writer, world.clock) as statuses:
        status = HostStatus("default", "a-0", "uid-a-0", 1, Phase.STARTING, False, "w", 0, 0)
        statuses.report([status])
        await world.pass_time(0.01)
        statuses.report([msgspec.structs.replace(status, phase=Phase.RUNNING, ready=True)])
        await world.until(lambda: world.ready() == {"a-0"})
    assert calls == [1, 1, 1, 1]


def foreign(name: str, phase: Phase = Phase.RUNNING) -> tuple[str, str, StatusRecord]:
    """The word of a node that the agent is not bound to any more."""
    return ("default", name, StatusRecord(1, f"uid-{name}", 0, phase, phase is Phase.RUNNING, "elsewhere", 0, 0))


async def test_a_status_that_was_overwritten_is_written_again(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        await leader.create("a-0", "a-1", "a-2", "a-3")
        await world.until(lambda: len(host.running) == len(world.ready()) == 3)
        (refused,) = set(world.agents()) - world.ready()
        await world.writer.put_statuses([foreign(name) for name in world.agents()])
        await leader.seen()
        await world.until(lambda: len(world.ready()) == 3)
        await world.until(lambda: world.agents()[refused].phase is Phase.REJECTED)


async def test_what_no_change_told_of_is_found_by_the_scan(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        await leader.create("a-0", "a-1")
        await world.until(lambda: len(world.ready()) == 2)
        blind, world.directory._listeners = world.directory._listeners, []
        await leader.create("a-2")
        await leader.remove("a-0")
        await leader.change("a-1", node="node-b", binding=2)
        world.directory._listeners = blind
        assert host.names() == {"a-0", "a-1"}
        await world.pass_time(3)
        assert host.names() == {"a-2"}
        assert world.ready() == {"a-2"}


async def test_one_odd_template_does_not_lose_the_others(world: World, leader: Leader) -> None:
    await leader.create("a-0", "a-2")
    await leader.create("a-1", template={"name": "odd", "resources": {"cpu": "plenty"}})
    async with running_node(world) as host:
        assert host.names() == {"a-0", "a-2"}
        await world.until(lambda: world.agents()["a-1"].status is not None)
        status = world.agents()["a-1"].status
        assert (status.phase, status.reason) == (Phase.PENDING, "TemplateUnreadable")
        assert "plenty" in status.message
        revision = world.directory.revision
        await world.pass_time(10)
        assert world.agents()["a-1"].revision <= revision


async def test_a_defect_does_not_end_the_scans(world: World, leader: Leader) -> None:
    async with running_node(world) as host:
        on_node, failed = world.directory.on_node, []

        def failing(node: str) -> Any:
            if not failed:
                failed.append(node)
                raise ValueError("defect")
            return on_node(node)

        world.directory.on_node = failing  # type: ignore[method-assign]
        blind, world.directory._listeners = world.directory._listeners, []
        await leader.create("a-0")
        world.directory._listeners = blind
        await world.until(lambda: host.names() == {"a-0"}, timeout_s=5)
        assert failed


@pytest.fixture
async def reporter(world: World, leader: Leader) -> AsyncIterator[StatusReporter]:
    """With three agents, of which nothing is said yet."""
    await leader.create("a-0", "a-1", "a-2")
    async with StatusReporter(NODE, world.directory, world.writer, world.clock) as statuses:
        yield statuses


def running(name: str, **fields: object) -> HostStatus:
    status = HostStatus("default", name, f"uid-{name}", 1, Phase.RUNNING, True, "w", 0, 0)
    return msgspec.structs.replace(status, **fields)


async def test_long_messages_keep_their_beginning_and_their_end(world: World, reporter: StatusReporter) -> None:
    reporter.report(
        [
            running("a-0", message="begin" + "x" * 2_000_000 + "end"),
            running("a-1", message="ä" * 5000 + "\ud800"),
            running("a-2", capabilities=tuple(f"{number:0100}" for number in range(50_000))),
        ]
    )
    await world.until(lambda: len(world.ready()) == 3)
    statuses = {name: one.status for name, one in world.agents().items()}
    message = statuses["a-0"].message
    assert len(message) <= MESSAGE_BYTES_MAX
    assert message.startswith("beginx")
    assert message.endswith("xend")
    assert len(statuses["a-1"].message.encode()) <= MESSAGE_BYTES_MAX
    assert statuses["a-1"].message.endswith("ä\\ud800")
    assert 0 < len(statuses["a-2"].capabilities) < 100


async def test_a_status_that_cannot_be_written_silences_no_other(world: World, reporter: StatusReporter) -> None:
    reporter.report([running("a-0"), running("a-1", capabilities=("odd \ud800",)), running("a-2")])
    await world.until(lambda: len(world.ready()) == 3)
    assert world.agents()["a-1"].status.message.startswith("what its node says of it cannot be stored")
    reporter.report([running("a-1", restarts=1)])
    await world.until(lambda: world.agents()["a-1"].status.restarts == 1)


async def test_statuses_survive_a_defect_in_writing_them(world: World, reporter: StatusReporter) -> None:
    put, calls = world.writer.put_statuses, []

    async def failing(statuses: Sequence[tuple[str, str, StatusRecord]]) -> None:
        calls.append(len(statuses))
        if len(calls) <= 7:  # three together, each alone as it is and shortened
            raise ValueError("defect")
        await put(statuses)

    world.writer.put_statuses = failing  # type: ignore[method-assign]
    reporter.report([running("a-0"), running("a-1"), running("a-2")])
    await world.until(lambda: len(world.ready()) == 3)
    assert calls == [3, *[1] * 6, 3]


async def test_another_process_of_the_same_name_supersedes_this_one(world: World) -> None:
    async with running_node(world) as first, running_node(world, "boot-2"):
        await world.pass_time(15)
        assert first.controller.superseded.is_set()  # type: ignore[attr-defined]


async def test_events_of_the_host_are_events_of_agents_and_nodes(world: World) -> None:
    async with EventRecorder(world.events, world.clock, world.ids, "node", NODE) as recorder:
        events = HostEvents(recorder, NODE)
        for _ in range(3):
            events.tell(HostEvent("Warning", "StartFailed", "boom 1", "default", "a-0", "uid-a-0"))
        events.tell(HostEvent("Warning", "WorkerLost", "killed", "default"))
        await world.until(lambda: world.reasons() == {"StartFailed", "WorkerLost"})
        events.tell(HostEvent("Warning", "StartFailed", "boom 2", "default", "a-0", "uid-a-0"))
        await world.until(lambda: world.event_messages("StartFailed") == ["boom 2"])
        failed, lost = sorted(world.events.list("events").items, key=lambda one: one["reason"])
        assert failed["count"] == 4
        assert failed["involvedObject"]["kind"] == "Agent"
        assert lost["involvedObject"] == {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "name": NODE}
