"""The census: whatever happens in whatever order, its figures are those of a count from scratch."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from choregos.control.loop import Key
from choregos.control.region.census import LEAVING, READY, UNREADY, Census, facts_of
from choregos.store.instance import Group, Instance, Template
from choregos.wire.instances import AgentRecord, DeletionRecord, Phase, StatusRecord

DEMAND = {"t1": {"cpu": 100, "agents": 1000}, "t2": {"cpu": 250, "agents": 1000}}


Said = tuple[Phase, str]
"""(phase, reason) of a status."""


def make(name: str, uid: str, template: str, node: str, *, leaving: bool, said: Said | None, asked: bool) -> Instance:
    record = AgentRecord(1, f"{name}-uid", "set", uid, template, node, 1, 1, deletion_ms=int(leaving))
    phase, reason = said or (Phase.PENDING, "")
    ready = phase is Phase.RUNNING and not reason
    status = None if said is None else StatusRecord(1, record.uid, 1, phase, ready, "", 0, 0, reason)
    deletion = DeletionRecord(1, record.uid) if asked else None
    group = Group("local", "set", uid, Template("default", template, {}, 1))
    return Instance("default", name, record, 1, status, deletion, 1, group)


instances = st.builds(
    make,
    name=st.sampled_from(["set-0", "set-1", "set-2", "set-3"]),
    uid=st.sampled_from(["u1", "u2"]),
    template=st.sampled_from(["t1", "t2"]),
    node=st.sampled_from(["", "a", "b"]),
    leaving=st.booleans(),
    said=st.none()
    | st.tuples(st.sampled_from(Phase), st.sampled_from(["", "ImportFailed", "RuntimeNotFound", "NotReady"])),
    asked=st.booleans(),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["observe", "expect", "settle"]), instances),
        st.tuples(st.just("vanish"), instances),
    ),
    max_size=30,
)


@given(steps=steps)
def test_figures_are_those_of_a_count_from_scratch(steps: list[tuple[str, Instance]]) -> None:
    woken: list[Key] = []
    census = Census(lambda _, template: DEMAND[template], woken.append)
    truth: dict[str, Instance] = {}
    for verb, one in steps:
        match verb:
            case "observe":
                truth[one.name] = one
                census.observe(one)
            case "expect":
                census.expect(one.namespace, one.name, one.record)
                census.settle(one.namespace, one.name, one.record, truth.get(one.name))
            case "settle":
                census.settle(one.namespace, one.name, one.record, truth.get(one.name))
            case "vanish":
                truth.pop(one.name, None)
                census.vanish(one.namespace, one.name)
    key = Key("default", "set")
    facts = {name: facts_of(one) for name, one in truth.items()}
    assert set(census.tallies(key)) == {one.set_uid for one in facts.values()}
    for uid, tally in census.tallies(key).items():
        mine = {name: one for name, one in facts.items() if one.set_uid == uid}
        staying = {name: one for name, one in mine.items() if one.state != LEAVING}
        assert tally.names == set(mine)
        assert tally.leaving == len(mine) - len(staying)
        assert tally.states == Counter((one.template, one.state) for one in staying.values())
        assert tally.templates == Counter(one.template for one in mine.values())
        cpu = sum(DEMAND[one.template]["cpu"] for one in mine.values())
        assert census.allocated_to(tally) == {"cpu": cpu, "agents": 1000 * len(mine)}
        assert tally.nodes == Counter(one.node for one in staying.values() if one.node)
        assert tally.homeless == {name for name, one in staying.items() if not one.node}
        assert tally.finished == {name for name, one in mine.items() if one.finished}
        assert tally.requested == {name for name, one in mine.items() if one.requested}
        assert tally.failing == {
            reason: {name for name, one in staying.items() if one.failing == reason}
            for reason in {one.failing for one in staying.values()} - {""}
        }
        counts = tally.counts("t1")
        assert counts.new_ready == tally.states["t1", READY]
        assert counts.old_unready == tally.states["t2", UNREADY]
        assert counts.total == len(staying)
    needy = {name for name, one in facts.items() if one.state != LEAVING and (not one.node or one.refused)}
    assert {agent.name for agent in census.homeless} == needy
    for node in ("a", "b"):
        bound = [one.template for one in facts.values() if one.node == node]
        assert census.allocated(node).get("cpu", 0) == sum(DEMAND[template]["cpu"] for template in bound)
    assert set(census.nodes()) == {one.node for one in facts.values() if one.node}
    assert bool(woken) or not facts


def test_news_of_a_record_that_is_being_replaced_changes_nothing() -> None:
    census = Census(lambda _, template: DEMAND[template], lambda _: None)

    def at(node: str, revision: int, said: Said | None = None) -> Instance:
        one = make("set-0", "u1", "t1", node, leaving=False, said=said, asked=False)
        return Instance("default", one.name, one.record, revision, one.status, None, revision, one.group)

    def counted() -> list[str]:
        return sorted(census.nodes())

    agent = Key("default", "set-0")
    census.observe(at("a", 7))
    census.expect("default", "set-0", at("b", 0).record, replaced=7)
    assert census.is_expected(agent)
    census.observe(at("a", 7, (Phase.RUNNING, "")))
    assert counted() == ["b"]
    census.observe(at("b", 9))
    assert not census.is_expected(agent)
    census.observe(at("c", 11))
    assert counted() == ["c"]
    planned = at("b", 0).record
    census.expect("default", "set-0", planned, replaced=11)
    census.settle("default", "set-0", at("b", 0).record, at("c", 11))
    assert counted() == ["b"], "somebody else's expectation is not settled"
    census.settle("default", "set-0", planned, at("c", 11))
    assert counted() == ["c"]
