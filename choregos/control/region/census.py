"""Counts the agents of a region, per set and per node, as they change: O(1) for each change, nothing is ever rescanned.

Invariants: every figure is the sum over `_facts`, one entry per agent. An entry follows the directory, except that the
leader may enter what it is about to write (`expect`), so that a plan made before the directory has caught up does not
give the same room away twice. From then on news of the record that is being replaced changes nothing, until the new
record is there or `settle` goes back to what the directory says. It reads and writes no store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from choregos.control.loop import Key
from choregos.scheduling.rollout import Counts
from choregos.store.instance import Instance
from choregos.wire.instances import NOT_READY, TEMPLATE_UNREADABLE, AgentRecord, Phase, StatusRecord
from choregos.wire.worker import RUNTIME_NOT_FOUND

READY, UNREADY, LEAVING = range(3)

C = TypeVar("C", bound=Hashable)


class Facts(NamedTuple):
    """What is counted of one agent.

    Attributes:
        state: READY, UNREADY, or LEAVING once its deletion has begun.
        failing: why its node cannot start it or keep it ready, in one word; empty while all goes its way.
        finished: it may be removed: it leaves and has stopped, or never had a node.
        requested: somebody asked for its deletion, which has not begun, or has with more time.
        refused: its node does not take it.
    """

    set_key: Key
    set_uid: str
    template: str
    node: str
    state: int
    failing: str = ""
    finished: bool = False
    requested: bool = False
    refused: bool = False


def facts_of(instance: Instance) -> Facts:
    record, status = instance.record, instance.status
    leaving = record.deletion_ms != 0
    phase = Phase.PENDING if status is None else status.phase
    ready = status is not None and status.ready and bool(record.node)
    return Facts(
        Key(instance.namespace, record.agent_set),
        record.agent_set_uid,
        record.template,
        record.node,
        LEAVING if leaving else READY if ready else UNREADY,
        failing="" if status is None or leaving else failure_of(status),
        finished=leaving and (not record.node or phase in (Phase.STOPPED, Phase.REJECTED)),
        requested=instance.deletion is not None and (not leaving or instance.deletion.grace_s < record.grace_s),
        refused=phase is Phase.REJECTED and not leaving,
    )


_CANNOT_START = frozenset({RUNTIME_NOT_FOUND, TEMPLATE_UNREADABLE})


def failure_of(status: StatusRecord) -> str:
    """The reason, if the status tells of something wrong with the agent and not only that it is on its way."""
    match status.phase:
        case Phase.BACKOFF:
            return status.reason or Phase.BACKOFF
        case Phase.STARTING:
            return status.reason  # of the failure after which it is started again
        case Phase.PENDING if status.reason in _CANNOT_START:
            return status.reason
        case Phase.RUNNING if status.reason == NOT_READY and not status.ready:
            return status.reason
    return ""


def facts_of_record(namespace: str, record: AgentRecord) -> Facts:
    """Of an agent that is about to be written and has no status of its binding yet."""
    leaving = record.deletion_ms != 0
    return Facts(
        Key(namespace, record.agent_set),
        record.agent_set_uid,
        record.template,
        record.node,
        LEAVING if leaving else UNREADY,
        finished=leaving and not record.node,
    )


@dataclass(slots=True)
class Tally:
    """One set's agents, counted. Read only for everybody but the census.

    Attributes:
        states: (template digest, READY or UNREADY) → agents.
        templates: template digest → agents, those leaving included.
        nodes: node → agents that are not leaving.
        names: of all agents, those leaving included: what a new one must not be called.
        homeless: without a node, not leaving. finished, requested: as in `Facts`.
        failing: reason → agents of which `Facts.failing` is that.
    """

    key: Key
    uid: str
    states: Counter[tuple[str, int]] = field(default_factory=Counter)
    templates: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)
    homeless: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    requested: set[str] = field(default_factory=set)
    failing: dict[str, set[str]] = field(default_factory=dict)
    leaving: int = 0

    def counts(self, template: str) -> Counts:
        """By readiness, and whether they are of the current template."""
        new_ready, new_unready = self.states[template, READY], self.states[template, UNREADY]
        ready = sum(count for (_, state), count in self.states.items() if state == READY)
        unready = sum(count for (_, state), count in self.states.items() if state == UNREADY)
        return Counts(new_ready, new_unready, ready - new_ready, unready - new_unready)


class Census:
    """See the module.

    Args:
        demand_of: what one agent of a template takes from its node, by namespace and template digest.
        on_change: called with a set's key whenever one of its figures changes, whoever changed it.
    """

    def __init__(self, demand_of: Callable[[str, str], Mapping[str, int]], on_change: Callable[[Key], None]) -> None:
        self._demand_of = demand_of
        self._on_change = on_change
        self._facts: dict[Key, Facts] = {}
        self._expected: dict[Key, tuple[AgentRecord, int]] = {}  # agent → as given to `expect`
        self._tallies: dict[Key, dict[str, Tally]] = {}
        self._on_node: dict[str, Counter[tuple[str, str]]] = {}  # node → (namespace, template) → agents
        self.homeless: dict[Key, Facts] = {}
        """Agents that need a node: they have none, or theirs does not take them. Not leaving."""
        self.refused: set[Key] = set()
        """Those of them whose node does not take them."""

    def tallies(self, set_key: Key) -> Mapping[str, Tally]:
        """Of every set that has or had this name and still has agents, by uid."""
        return self._tallies.get(set_key, {})

    def tally(self, set_key: Key, uid: str) -> Tally:
        """Of one set; an empty one if it has no agents."""
        return self.tallies(set_key).get(uid) or Tally(set_key, uid)

    def set_keys(self) -> Iterable[Key]:
        """Every set that has agents."""
        return list(self._tallies)

    def allocated(self, node: str) -> dict[str, int]:
        """What the agents bound to a node take of it, those leaving included."""
        return self._sum(self._on_node.get(node, {}).items())

    def allocated_to(self, tally: Tally) -> dict[str, int]:
        """What all agents of a set take or, while they have no node, wait for; those leaving included."""
        return self._sum(((tally.key.namespace, template), count) for template, count in tally.templates.items())

    def _sum(self, agents: Iterable[tuple[tuple[str, str], int]]) -> dict[str, int]:
        total: Counter[str] = Counter()
        for (namespace, template), count in agents:
            for resource, amount in self._demand_of(namespace, template).items():
                total[resource] += amount * count
        return dict(total)

    def nodes(self) -> Iterable[str]:
        """Every node that agents are bound to."""
        return list(self._on_node)

    def facts(self, agent: Key) -> Facts | None:
        """What is counted of one agent; None if it is not."""
        return self._facts.get(agent)

    def is_expected(self, agent: Key) -> bool:
        """Whether a write of its record has not come back yet."""
        return agent in self._expected

    def observe(self, instance: Instance) -> None:
        """Takes what the directory says of an agent."""
        agent = Key(instance.namespace, instance.name)
        expected = self._expected.get(agent)
        if expected is not None:
            _, replaced = expected
            if instance.record_revision <= replaced:
                return
            del self._expected[agent]
        self._enter(agent, facts_of(instance))

    def vanish(self, namespace: str, name: str) -> None:
        """The agent's record is gone."""
        agent = Key(namespace, name)
        self._expected.pop(agent, None)
        facts = self._facts.pop(agent, None)
        if facts is None:
            return
        self._leave(agent, facts)
        self._prune(facts)
        self._on_change(facts.set_key)

    def expect(self, namespace: str, name: str, record: AgentRecord, replaced: int = 0) -> None:
        """Counts what is about to be written as if it were written.

        Args:
            replaced: sequence of the record it takes the place of; 0 if there is none.
        """
        agent = Key(namespace, name)
        self._expected[agent] = record, replaced
        self._enter(agent, facts_of_record(namespace, record))

    def settle(self, namespace: str, name: str, record: AgentRecord, instance: Instance | None) -> None:
        """The write did not happen, or nobody knows: counts what the directory says.

        Args:
            record: as given to `expect`. If something else is expected by now, that stays.
        """
        agent = Key(namespace, name)
        expected = self._expected.get(agent)
        if expected is None or expected[0] is not record:
            return
        del self._expected[agent]
        if instance is None:
            self.vanish(namespace, name)
        else:
            self.observe(instance)

    def _enter(self, agent: Key, facts: Facts) -> None:
        before = self._facts.get(agent)
        if before == facts:
            return
        if before is not None:
            self._leave(agent, before)
        self._facts[agent] = facts
        tally = self._tally(facts)
        tally.names.add(agent.name)
        tally.templates[facts.template] += 1
        if facts.requested:
            tally.requested.add(agent.name)
        if facts.node:
            self._node(facts.node)[agent.namespace, facts.template] += 1
        if facts.state == LEAVING:
            tally.leaving += 1
            if facts.finished:
                tally.finished.add(agent.name)
        else:
            self._stay(agent, facts, tally)
        if before is not None and before[:2] != facts[:2]:
            self._prune(before)
            self._on_change(before.set_key)
        self._on_change(facts.set_key)

    def _stay(self, agent: Key, facts: Facts, tally: Tally) -> None:
        tally.states[facts.template, facts.state] += 1
        if facts.node:
            tally.nodes[facts.node] += 1
        else:
            tally.homeless.add(agent.name)
        if not facts.node or facts.refused:
            self.homeless[agent] = facts
        if facts.refused:
            self.refused.add(agent)
        if facts.failing:
            tally.failing.setdefault(facts.failing, set()).add(agent.name)

    def _leave(self, agent: Key, facts: Facts) -> None:
        """Undoes `_enter`."""
        tally = self._tallies[facts.set_key][facts.set_uid]
        for names in (tally.names, tally.homeless, tally.finished, tally.requested):
            names.discard(agent.name)
        _drop(tally.templates, facts.template)
        if facts.failing:
            tally.failing[facts.failing].discard(agent.name)
            if not tally.failing[facts.failing]:
                del tally.failing[facts.failing]
        self.homeless.pop(agent, None)
        self.refused.discard(agent)
        if facts.node:
            _drop(self._on_node[facts.node], (agent.namespace, facts.template))
            if not self._on_node[facts.node]:
                del self._on_node[facts.node]
        if facts.state == LEAVING:
            tally.leaving -= 1
        else:
            _drop(tally.states, (facts.template, facts.state))
            if facts.node:
                _drop(tally.nodes, facts.node)

    def _prune(self, facts: Facts) -> None:
        by_uid = self._tallies[facts.set_key]
        if not by_uid[facts.set_uid].names:
            del by_uid[facts.set_uid]
            if not by_uid:
                del self._tallies[facts.set_key]

    def _tally(self, facts: Facts) -> Tally:
        by_uid = self._tallies.setdefault(facts.set_key, {})
        tally = by_uid.get(facts.set_uid)
        if tally is None:
            tally = by_uid[facts.set_uid] = Tally(facts.set_key, facts.set_uid)
        return tally

    def _node(self, node: str) -> Counter[tuple[str, str]]:
        found = self._on_node.get(node)
        if found is None:
            found = self._on_node[node] = Counter()
        return found


def _drop(counter: Counter[C], entry: C) -> None:
    counter[entry] -= 1
    if not counter[entry]:
        del counter[entry]
