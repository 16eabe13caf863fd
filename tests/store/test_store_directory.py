"""The directory joins records whatever their order, and its indexes never disagree with its instances."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Conflict, Deposed, NotFound
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instance import Instance
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence, Record, Write
from choregos.store.watch import ChangeType
from choregos.testing.record_log_contract import new_epoch
from choregos.testing.sim_clock import SimClock
from choregos.wire.instances import VERSION, AgentRecord, DeletionRecord, Phase, StatusRecord, TemplateRecord

REGION = "local"
SPEC = {"name": "conversation", "capabilities": ["talk", "listen"], "labels": {"tier": "gold"}}
DIGEST = "0123456789abcdef"


def agent(
    uid: str = "u1",
    *,
    node: str = "n1",
    binding: int = 1,
    set_uid: str = "s1",
    template: str = DIGEST,
    deletion_ms: int = 0,
) -> AgentRecord:
    return AgentRecord(VERSION, uid, "set", set_uid, template, node, binding, 1, deletion_ms)


def status(
    uid: str = "u1", *, binding: int = 1, ready: bool = True, capabilities: tuple[str, ...] = ()
) -> StatusRecord:
    return StatusRecord(VERSION, uid, binding, Phase.RUNNING, ready, "host", 0, 1, capabilities=capabilities)


def template(digest: str = DIGEST, spec: dict[str, object] = SPEC) -> TemplateRecord:
    return TemplateRecord(VERSION, digest, msgspec.json.encode(spec))


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(SystemClock())


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def writer(log: MemoryLog) -> InstanceWriter:
    return InstanceWriter(log, REGION)


@pytest.fixture
async def fence(log: MemoryLog) -> Fence:
    return await new_epoch(log)


@pytest.fixture
async def directory(log: MemoryLog) -> AsyncIterator[Directory]:
    async with Directory(log, REGION, SystemClock()) as directory:
        yield directory


async def test_an_agent_is_the_join_of_its_records(directory: Directory, writer: InstanceWriter, fence: Fence) -> None:
    await writer.put_templates([("ns", template())], fence)
    assert await writer.create_agents([("ns", "a", agent())], fence) == []
    await directory.wait_for(writer.revision)
    pending = directory.get("ns", "a")
    assert (pending.phase, pending.ready, directory.with_capability("ns", "talk")) == (Phase.PENDING, False, [])
    await writer.put_statuses([("ns", "a", status())])
    await directory.wait_for(writer.revision)
    ready = directory.get("ns", "a")
    assert (ready.phase, ready.ready, ready.capabilities) == (Phase.RUNNING, True, ("talk", "listen"))
    assert ready.labels == {
        "tier": "gold",
        "choregos.dev/template": "conversation",
        "choregos.dev/set": "set",
        "choregos.dev/region": REGION,
    }
    assert (ready.revision, ready.record_revision) == (writer.revision, pending.revision)
    for found in (
        directory.list(),
        directory.list("ns"),
        directory.of_set("s1"),
        directory.on_node("n1"),
        directory.with_capability("ns", "listen"),
        directory.with_labels("ns", lambda labels: labels["tier"] == "gold"),
        directory.with_labels("", lambda labels: True),
    ):
        assert found == [ready]
    assert directory.with_labels("ns", lambda labels: labels["tier"] == "silver") == []
    assert directory.list("other") == directory.with_capability("other", "talk") == []
    assert pending.status is None


async def test_a_status_of_another_binding_or_uid_does_not_count(
    directory: Directory, writer: InstanceWriter, fence: Fence
) -> None:
    await writer.create_agents([("ns", "a", agent(binding=2))], fence)
    await writer.put_statuses([("ns", "a", status(binding=1))])
    await directory.wait_for(writer.revision)
    assert directory.get("ns", "a").status is None
    await writer.put_statuses([("ns", "a", status(binding=2))])
    await directory.wait_for(writer.revision)
    bound = directory.get("ns", "a")
    assert bound.ready
    await writer.update_agents([(bound, agent(binding=3, node="n2"))], fence)
    await directory.wait_for(writer.revision)
    assert directory.get("ns", "a").status is None
    assert (directory.on_node("n1"), len(directory.on_node("n2"))) == ([], 1)


async def test_a_late_status_of_an_old_binding_leaves_none_until_the_node_writes_again(
    directory: Directory, writer: InstanceWriter, log: MemoryLog, fence: Fence
) -> None:
    await writer.create_agents([("ns", "a", agent(binding=2))], fence)
    await writer.put_statuses([("ns", "a", status(binding=2))])
    await writer.put_statuses([("ns", "a", status(binding=1))])
    await directory.wait_for(writer.revision)
    async with Directory(log, REGION, SystemClock()) as late:
        assert late.get("ns", "a").status is directory.get("ns", "a").status is None
        await writer.put_statuses([("ns", "a", status(binding=2))])
        await late.wait_for(writer.revision)
        await directory.wait_for(writer.revision)
        assert late.get("ns", "a").ready
        assert directory.get("ns", "a").ready


async def test_capabilities_of_the_class_count_when_the_template_has_none(
    directory: Directory, writer: InstanceWriter, fence: Fence
) -> None:
    await writer.put_templates([("ns", template("plain", {"name": "plain"}))], fence)
    await writer.create_agents([("ns", "a", agent(template="plain"))], fence)
    await writer.put_statuses([("ns", "a", status(capabilities=("own", "own")))])
    await directory.wait_for(writer.revision)
    assert [instance.name for instance in directory.with_capability("ns", "own")] == ["a"]
    assert directory.capabilities("ns") == ["own"]
    await writer.put_statuses([("ns", "a", status(ready=False))])
    await directory.wait_for(writer.revision)
    assert directory.capabilities("ns") == []


async def test_a_template_removed_under_its_agents_can_be_stored_again_and_goes_with_the_last_of_them(
    directory: Directory, writer: InstanceWriter, fence: Fence
) -> None:
    await writer.put_templates([("ns", template())], fence)
    await writer.create_agents([("ns", "a", agent())], fence)
    await directory.wait_for(writer.revision)
    stored = directory.templates["ns", DIGEST]
    await writer.remove_template(stored, fence)
    await directory.wait_for(writer.revision)
    assert (stored.revision, directory.get("ns", "a").labels["tier"]) == (0, "gold")
    await writer.put_templates([("ns", template())], fence)
    await directory.wait_for(writer.revision)
    assert directory.templates["ns", DIGEST].revision == writer.revision
    await writer.remove_template(directory.templates["ns", DIGEST], fence)
    await writer.remove_agents([directory.get("ns", "a")], fence)
    await directory.wait_for(writer.revision)
    assert directory.templates == {}


async def test_an_agent_that_is_being_deleted_takes_no_calls(
    directory: Directory, writer: InstanceWriter, fence: Fence
) -> None:
    await writer.put_templates([("ns", template())], fence)
    await writer.create_agents([("ns", "a", agent())], fence)
    await writer.put_statuses([("ns", "a", status())])
    await writer.request_deletion("ns", "a", DeletionRecord(VERSION, "u1"))
    await directory.wait_for(writer.revision)
    asked = directory.get("ns", "a")
    assert asked.ready
    assert asked.deletion is not None
    await writer.update_agents([(asked, agent(deletion_ms=5))], fence)
    await directory.wait_for(writer.revision)
    assert directory.with_capability("ns", "talk") == []
    await writer.remove_agents([directory.get("ns", "a")], fence)
    await directory.wait_for(writer.revision)
    with pytest.raises(NotFound):
        directory.get("ns", "a")
    assert len(directory) == 0
    assert directory.on_node("n1") == directory.of_set("s1") == []


async def test_a_deletion_request_for_an_earlier_agent_of_the_name_does_not_count(
    directory: Directory, writer: InstanceWriter, fence: Fence
) -> None:
    await writer.request_deletion("ns", "a", DeletionRecord(VERSION, "u0"))
    await writer.create_agents([("ns", "a", agent("u1"))], fence)
    await directory.wait_for(writer.revision)
    assert directory.get("ns", "a").deletion is None


async def test_creating_tells_what_exists_and_replaces_tombstones(
    directory: Directory, writer: InstanceWriter, fence: Fence
) -> None:
    await writer.create_agents([("ns", name, agent(f"u-{name}")) for name in ("a", "b")], fence)
    await directory.wait_for(writer.revision)
    await writer.remove_agents([directory.get("ns", "a")], fence)
    wanted = [("ns", name, agent(f"v-{name}")) for name in ("a", "b", "c")]
    assert await writer.create_agents(wanted, fence) == [("ns", "b")]
    assert await writer.create_agents(wanted, fence) == [("ns", "a"), ("ns", "b"), ("ns", "c")]
    await directory.wait_for(writer.revision)
    assert [instance.record.uid for instance in directory.list("ns")] == ["v-a", "u-b", "v-c"]


async def test_stale_and_deposed_writers_are_refused(
    directory: Directory, writer: InstanceWriter, log: MemoryLog, fence: Fence
) -> None:
    await writer.create_agents([("ns", "a", agent())], fence)
    await directory.wait_for(writer.revision)
    seen = directory.get("ns", "a")
    await writer.update_agents([(seen, agent(node="n2"))], fence)
    for write in (writer.update_agents([(seen, agent(node="n3"))], fence), writer.remove_agents([seen], fence)):
        with pytest.raises(Conflict):
            await write
    await new_epoch(log)
    await directory.wait_for(writer.revision)
    current = directory.get("ns", "a")
    for write in (
        writer.put_templates([("ns", template())], fence),
        writer.update_agents([(current, agent(node="n3"))], fence),
        writer.remove_agents([current], fence),
    ):
        with pytest.raises(Deposed):
            await write
    with pytest.raises(Deposed):
        await writer.create_agents([("ns", "b", agent("u2"))], fence)
    assert directory.get("ns", "a").record.node == "n2"


async def test_changes_are_watched_and_heard(directory: Directory, writer: InstanceWriter, fence: Fence) -> None:
    heard: list[str] = []
    directory.on_change(lambda changes: heard.extend(change.type.value for change in changes))
    since = directory.revision
    await writer.create_agents([("ns", "a", agent()), ("other", "b", agent("u2"))], fence)
    await writer.put_statuses([("ns", "a", status())])
    await directory.wait_for(writer.revision)
    await writer.remove_agents([directory.get("ns", "a")], fence)
    await directory.wait_for(writer.revision)
    assert heard == ["ADDED", "ADDED", "MODIFIED", "DELETED"]
    async with directory.watch("ns", since=since) as watch, asyncio.timeout(5):
        changes = await watch.ready()
    assert [change.type for change in changes] == [ChangeType.ADDED, ChangeType.MODIFIED, ChangeType.DELETED]
    assert changes[1].previous is changes[0].instance
    assert changes[2].instance.ready


async def test_more_than_one_batch_is_written(directory: Directory, writer: InstanceWriter, fence: Fence) -> None:
    count = 1_201
    agents = [("ns", f"a{number}", agent(f"u{number}")) for number in range(count)]
    assert await writer.create_agents(agents, fence) == []
    await writer.put_statuses([("ns", f"a{number}", status(f"u{number}")) for number in range(count)] * 2)
    await directory.wait_for(writer.revision)
    assert sum(instance.ready for instance in directory.list()) == count
    await writer.remove_agents(directory.list(), fence)
    await directory.wait_for(writer.revision)
    assert len(directory) == 0


def consistent(directory: Directory) -> None:
    """Every index equals what a scan of all instances gives."""
    instances = directory.list()

    def names(found: object) -> list[str]:
        return sorted(instance.name for instance in found)  # type: ignore[attr-defined]

    for node in ("", "n1", "n2"):
        assert names(directory.on_node(node)) == names(i for i in instances if i.record.node == node)
    for set_uid in ("s1", "s2"):
        assert names(directory.of_set(set_uid)) == names(i for i in instances if i.record.agent_set_uid == set_uid)
    for capability in ("talk", "listen", "own"):
        ready = (i for i in instances if i.ready and capability in i.capabilities)
        assert names(directory.with_capability("ns", capability)) == names(ready)
    gold = (i for i in instances if i.labels.get("tier") == "gold")
    assert names(directory.with_labels("ns", lambda labels: labels.get("tier") == "gold")) == names(gold)


records = st.one_of(
    st.builds(
        lambda name, uid, node, binding, set_uid, digest, deleted: (
            "a",
            name,
            agent(uid, node=node, binding=binding, set_uid=set_uid, template=digest, deletion_ms=deleted),
        ),
        st.sampled_from("xy"),
        st.sampled_from(["u1", "u2"]),
        st.sampled_from(["", "n1", "n2"]),
        st.integers(1, 2),
        st.sampled_from(["s1", "s2"]),
        st.sampled_from([DIGEST, "plain"]),
        st.sampled_from([0, 0, 5]),
    ),
    st.builds(
        lambda name, uid, binding, ready: (
            "as",
            name,
            status(uid, binding=binding, ready=ready, capabilities=("own",)),
        ),
        st.sampled_from("xy"),
        st.sampled_from(["u1", "u2"]),
        st.integers(1, 2),
        st.booleans(),
    ),
    st.builds(
        lambda name, uid: ("ad", name, DeletionRecord(VERSION, uid)),
        st.sampled_from("xy"),
        st.sampled_from(["u1", "u2"]),
    ),
    st.sampled_from([("at", DIGEST, template()), ("at", "plain", template("plain", {"name": "plain"}))]),
    st.builds(lambda kind, name: (kind, name, None), st.sampled_from(["a", "as", "ad"]), st.sampled_from("xy")),
)


def essence(instance: Instance) -> object:
    deletion = instance.deletion is not None
    return instance.namespace, instance.name, instance.record, instance.status, deletion, instance.capabilities


@given(history=st.lists(records, max_size=25), seed=st.integers())
@settings(deadline=None, max_examples=300)
def test_indexes_agree_with_instances_after_every_history(history: list[tuple[str, str, object]], seed: int) -> None:
    """And a reader that comes late, or saw only some of the states in between, ends with the same picture."""
    everything, late = (Directory(MemoryLog(SystemClock()), REGION, SystemClock()) for _ in range(2))
    stored: dict[str, Record] = {}

    def catch_up() -> None:
        for record in sorted(stored.values(), key=lambda record: record.sequence):
            late.apply(record)
        stored.clear()

    for sequence, (kind, name, body) in enumerate(history, 1):
        subject = f"{kind}.{REGION}.ns.{name}"
        data = b"" if body is None else msgspec.msgpack.encode(body)
        stored[subject] = Record(subject, data, sequence, body is None, 0)
        everything.apply(stored[subject])
        consistent(everything)
        if random.Random(seed + sequence).random() < 0.2:
            catch_up()
    catch_up()
    consistent(late)
    assert [essence(instance) for instance in late.list()] == [essence(instance) for instance in everything.list()]


async def test_what_vanished_is_forgotten(clock: SimClock) -> None:
    log = MemoryLog(clock)
    writer = InstanceWriter(log, REGION)
    async with Directory(log, REGION, clock) as directory:
        await log.append(Write("a.local.ns.a", msgspec.msgpack.encode(agent()), ttl_s=60))
        await log.append(Write("a.local.ns.b", msgspec.msgpack.encode(agent("u2"))))
        await writer.request_deletion("ns", "b", DeletionRecord(VERSION, "u2"))
        await clock.advance(3_000)
        assert [instance.deletion is not None for instance in directory.list()] == [False, True]
        await clock.advance(2 * 3_600)
        assert [(instance.name, instance.deletion) for instance in directory.list()] == [("b", None)]
        assert await log.subjects() == {"a.local.ns.b"}


async def test_what_waits_for_an_agent_that_never_comes_is_dropped(clock: SimClock) -> None:
    log = MemoryLog(clock)
    writer = InstanceWriter(log, REGION)
    async with Directory(log, REGION, clock) as directory:
        for hour in range(3):
            await writer.put_statuses([("ns", f"a{hour}", status())])
            await writer.request_deletion("ns", f"a{hour}", DeletionRecord(VERSION, "u1"))
            await clock.advance(3_000)
        kept = ["ad.local.ns.a2", "as.local.ns.a1", "as.local.ns.a2"]
        assert sorted(subject for subject, _ in directory.held()) == kept


async def test_every_moment_since_it_was_loaded_can_be_listed(
    directory: Directory, writer: InstanceWriter, fence: Fence
) -> None:
    shown = []
    dice = random.Random(6)
    for number in range(60):
        name = f"a{dice.randrange(8)}"
        found = directory.find("ns", name)
        if found is None:
            await writer.create_agents([("ns", name, agent(f"u{number}"))], fence)
        elif found.status is None or dice.random() < 0.5:
            await writer.put_statuses([("ns", name, status(found.record.uid, ready=dice.random() < 0.5))])
        else:
            await writer.remove_agents([found], fence)
        await directory.wait_for(writer.revision)
        shown.append((directory.revision, list(directory.list())))
    for revision, instances in shown:
        assert directory.list_as_of(revision, "ns") == directory.list_as_of(revision) == instances
