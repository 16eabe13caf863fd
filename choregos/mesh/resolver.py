"""Answers where the agents of a target are, from the directory and from what was seen of them.

A resolution must not cost more because there are many agents: of a capability with ten thousand, one looks at the
best known from last time and at the next window of the others, so that every agent comes up in turn, is tried, and
stays in mind if it proves good (Mitzenmacher, Prabhakar, Shah, "Load Balancing with Memory", 2002). Invariant: only
agents that are ready and match are offered, at most 32, best first; if there is none, the message says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from choregos.mesh.absence import explain
from choregos.mesh.routes import CANDIDATES_MAX, Statistics, Target, shortlist
from choregos.mesh.selection import Selection, parse_selector
from choregos.store.directory import Directory
from choregos.store.instance import Instance
from choregos.wire.worker import CallStats, Candidate, Resolve, Resolved

WINDOW = 64
"""Agents looked at per resolution besides the best known."""

POOL_S = 0.25
"""How long a list of matching agents is used although the directory has changed; who has gone is refused later."""

POOLS_MAX = 1024

NAMESPACES_MAX = 1024
"""Namespaces with a resolver of their own; the oldest begins anew when there are more."""


class _Pool:
    """The agents of one target.

    Attributes:
        made_at, revision: when, and of which revision of the directory.
        best: names of those offered last time.
        cursor: where the next window begins.
    """

    __slots__ = ("best", "cursor", "instances", "made_at", "revision")

    def __init__(self) -> None:
        self.instances: Sequence[Instance] = ()
        self.made_at = 0.0
        self.revision = -1
        self.best: tuple[str, ...] = ()
        self.cursor = 0

    def window(self) -> list[Instance]:
        """The next agents in turn; the order is that of the directory's sets, which is none."""
        instances = self.instances
        if len(instances) <= WINDOW:
            return list(instances)
        start = self.cursor % len(instances)
        self.cursor = start + WINDOW
        window = list(islice(instances, start, start + WINDOW))
        return window + list(islice(instances, WINDOW - len(window)))


class Resolver:
    """Over one region's directory.

    Args:
        now: monotonic time in seconds.
    """

    def __init__(self, directory: Directory, statistics: Statistics, now: Callable[[], float]) -> None:
        self._directory = directory
        self._statistics = statistics
        self._now = now
        self._pools: dict[Target, _Pool] = {}

    def observe(self, seen: Sequence[CallStats]) -> None:
        """Learns from what a caller saw of the agents it called."""
        now_s = self._now()
        for stats in seen:
            self._statistics.observe(stats, now_s)

    async def resolve(self, target: Target) -> Resolved:
        """As a `Caller` of this process asks."""
        return self.candidates(target)

    def candidates(self, target: Target, request: int = 0) -> Resolved:
        """The agents to call; `request` is the number of the question."""
        try:
            selection = parse_selector(target.selector)
        except ValueError as error:
            return Resolved(request, (), f"the selector {target.selector!r} cannot be read: {error}")
        found = self._named(target, selection) if target.agent else self._capable(target, selection)
        return Resolved(request, found) if found else Resolved(request, (), explain(self._directory, target, selection))

    def _named(self, target: Target, selection: Selection) -> tuple[Candidate, ...]:
        instance = self._directory.find(target.namespace, target.agent)
        if instance is None or not instance.ready or not selection.matches(instance):
            return ()
        return (self._candidate(instance, self._now()),)

    def _capable(self, target: Target, selection: Selection) -> tuple[Candidate, ...]:
        now_s = self._now()
        pool = self._pool(target, selection, now_s)
        looked_at = {instance.name: instance for instance in pool.window()}
        for name in pool.best:
            if name not in looked_at:
                instance = self._directory.find(target.namespace, name)
                if instance is not None:
                    looked_at[name] = instance
        usable = [
            self._candidate(instance, now_s)
            for instance in looked_at.values()
            if instance.ready and target.capability in instance.capabilities and selection.matches(instance)
        ]
        offered = shortlist(usable)
        pool.best = tuple(candidate.name for candidate in offered)
        return offered

    def _pool(self, target: Target, selection: Selection, now_s: float) -> _Pool:
        pool = self._pools.get(target)
        if pool is None:
            if len(self._pools) >= POOLS_MAX:
                del self._pools[next(iter(self._pools))]
            pool = self._pools[target] = _Pool()
        revision = self._directory.revision
        small = len(pool.instances) <= CANDIDATES_MAX
        if pool.revision != revision and (small or now_s - pool.made_at >= POOL_S):
            capable = self._directory.with_capability(target.namespace, target.capability)
            pool.instances = selection.select(capable)
            pool.made_at, pool.revision = now_s, revision
        return pool

    def _candidate(self, instance: Instance, now_s: float) -> Candidate:
        status = instance.status
        assert status is not None  # it is ready
        score = self._statistics.score(instance.record.uid)
        if score is None:
            return Candidate(instance.name, instance.record.uid, status.host)
        return Candidate(
            instance.name,
            instance.record.uid,
            status.host,
            score.latency_ms,
            score.success_at(now_s),
            score.in_flight_at(now_s),
        )


class Resolvers:
    """A node's: one `Resolver` for each namespace whose workers ask.

    What they say of agents they have called is believed, and workers run code that is not ours. So it counts for what
    is offered to their own namespace and for nothing else, and however much they say, nobody else's is forgotten.
    """

    def __init__(self, directory: Directory, now: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now
        self._resolvers: dict[str, Resolver] = {}

    async def answer(self, namespace: str, question: Resolve) -> Resolved:
        """As a worker of this namespace asks, over its node's socket."""
        target = Target(namespace, question.agent, question.capability, question.selector)
        return self._of(namespace).candidates(target, question.request)

    def observe(self, namespace: str, seen: Sequence[CallStats]) -> None:
        """Learns from what a worker of this namespace saw of the agents it called."""
        self._of(namespace).observe(seen)

    def _of(self, namespace: str) -> Resolver:
        resolver = self._resolvers.get(namespace)
        if resolver is None:
            if len(self._resolvers) >= NAMESPACES_MAX:
                del self._resolvers[next(iter(self._resolvers))]
            resolver = self._resolvers[namespace] = Resolver(self._directory, Statistics(), self._now)
        return resolver
