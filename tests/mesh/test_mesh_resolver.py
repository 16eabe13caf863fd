"""Where agents are: from a real directory over the log in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from choregos.mesh.resolver import POOL_S, WINDOW, Resolver, Resolvers
from choregos.mesh.routes import CANDIDATES_MAX, Statistics, Target
from choregos.resources.templates import canonical_digest
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence
from choregos.testing.sim_clock import SimClock
from choregos.wire.instances import VERSION, AgentRecord, Phase, StatusRecord, TemplateRecord
from choregos.wire.subjects import epoch_subject, fence_subject
from choregos.wire.worker import CallStats, Resolve

FENCE = Fence(fence_subject("local", "region"), epoch_subject("local", "region"), 0)
SEARCH = Target("default", capability="search")
NAMES = [f"w-{number}" for number in range(1000)]


class Region:
    """A directory that tests fill, and a resolver over it."""

    def __init__(self) -> None:
        self.clock = SimClock()
        log = MemoryLog(self.clock)
        self.directory = Directory(log, "local", self.clock)
        self.resolver = Resolver(self.directory, Statistics(), self.clock.monotonic)
        self.resolvers = Resolvers(self.directory, self.clock.monotonic)
        self._writer = InstanceWriter(log, "local")

    async def add(
        self,
        *names: str,
        agent_set: str = "workers",
        node: str = "n1",
        phase: Phase = Phase.RUNNING,
        reason: str = "",
        message: str = "",
        template: Mapping[str, Any] | None = None,
    ) -> None:
        spec = template or {"name": "worker", "capabilities": ["search"], "labels": {"tier": "gold"}}
        digest, encoded = canonical_digest(spec)
        records = [
            ("default", name, AgentRecord(VERSION, f"uid-{name}", agent_set, f"uid-{agent_set}", digest, node, 1, 0))
            for name in names
        ]
        ready = phase is Phase.RUNNING
        statuses = [
            ("default", name, StatusRecord(VERSION, f"uid-{name}", 1, phase, ready, f"h-{node}", 0, 0, reason, message))
            for name in names
        ]
        await self._writer.put_templates([("default", TemplateRecord(VERSION, digest, encoded))], FENCE)
        await self._writer.create_agents(records, FENCE)
        await self._writer.put_statuses(statuses)
        await self.directory.wait_for(self._writer.revision)

    async def set_phase(self, name: str, phase: Phase) -> None:
        status = StatusRecord(VERSION, f"uid-{name}", 1, phase, phase is Phase.RUNNING, "h-n1", 0, 0)
        await self._writer.put_statuses([("default", name, status)])
        await self.directory.wait_for(self._writer.revision)

    def names(self, target: Target) -> Sequence[str]:
        return [candidate.name for candidate in self.resolver.candidates(target).candidates]

    def message(self, target: Target) -> str:
        resolved = self.resolver.candidates(target)
        assert resolved.candidates == ()
        return resolved.message


@pytest.fixture
async def region() -> AsyncIterator[Region]:
    region = Region()
    async with region.directory:
        yield region


async def test_an_agent_is_found_by_name_with_its_host(region: Region) -> None:
    await region.add("a")
    (candidate,) = region.resolver.candidates(Target("default", "a")).candidates
    assert (candidate.name, candidate.uid, candidate.host) == ("a", "uid-a", "h-n1")


async def test_only_ready_agents_of_the_namespace_with_the_capability_are_found(region: Region) -> None:
    await region.add("a", "b")
    await region.add("c", phase=Phase.STARTING)
    await region.add("d", agent_set="others", template={"name": "other", "capabilities": ["talk"]})
    assert sorted(region.names(SEARCH)) == ["a", "b"]
    assert region.names(Target("elsewhere", capability="search")) == []


async def test_a_worker_is_answered_with_the_number_of_its_question(region: Region) -> None:
    await region.add("a")
    resolved = await region.resolvers.answer("default", Resolve(7, capability="search"))
    assert (resolved.request, [each.name for each in resolved.candidates]) == (7, ["a"])


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier=gold", ["gold-0", "gold-1"]),
        ("tier in (gold,silver)", ["gold-0", "gold-1", "silver-0"]),
        ("tier!=gold", ["silver-0"]),
        ("choregos.dev/set=silver", ["silver-0"]),
        ("metadata.name=gold-1", ["gold-1"]),
        ("spec.node=n2", ["gold-1"]),
        ("tier in (gold, silver),spec.node!=n2", ["gold-0", "silver-0"]),
        ("spec.node=n1, tier=silver", ["silver-0"]),
    ],
)
async def test_selectors_of_labels_and_fields(region: Region, selector: str, expected: list[str]) -> None:
    gold = {"name": "gold", "capabilities": ["search"], "labels": {"tier": "gold"}}
    silver = {"name": "silver", "capabilities": ["search"], "labels": {"tier": "silver"}}
    await region.add("gold-0", agent_set="gold", template=gold)
    await region.add("gold-1", agent_set="gold", template=gold, node="n2")
    await region.add("silver-0", agent_set="silver", template=silver)
    assert sorted(region.names(SEARCH._replace(selector=selector))) == expected
    by_name = Target("default", "gold-1", selector=selector)
    assert region.names(by_name) == (["gold-1"] if "gold-1" in expected else [])


async def test_changes_are_seen_at_once_among_few(region: Region) -> None:
    await region.add("a", "b")
    assert sorted(region.names(SEARCH)) == ["a", "b"]
    await region.set_phase("a", Phase.BACKOFF)
    assert region.names(SEARCH) == ["b"]
    await region.set_phase("a", Phase.RUNNING)
    assert sorted(region.names(SEARCH)) == ["a", "b"]


class TestAmongMany:
    async def test_every_agent_comes_up_in_turn(self, region: Region) -> None:
        await region.add(*NAMES)
        seen: Counter[str] = Counter()
        for _ in range(1000 // WINDOW * 3):
            # Each is tried, and all prove equal.
            resolved = region.resolver.candidates(SEARCH).candidates
            assert len(resolved) == CANDIDATES_MAX
            seen.update(candidate.name for candidate in resolved)
            region.resolver.observe([CallStats(candidate.uid, 1, 0, 10.0, 0) for candidate in resolved])
        # Three rounds offer 3 × 8 places of each window to those that nobody had tried yet.
        assert len(seen) > 350

    async def test_the_good_ones_are_kept_in_mind(self, region: Region) -> None:
        await region.add(*NAMES)
        good = {f"uid-w-{number}" for number in range(0, 1000, 50)}
        region.resolver.observe([CallStats(f"uid-{name}", 1, 0, 500.0, 0) for name in NAMES])
        region.resolver.observe([CallStats(uid, 64, 0, 64.0, 0) for uid in good])
        for _ in range(1000 // WINDOW + 1):
            best = region.resolver.candidates(SEARCH).candidates
        assert {candidate.uid for candidate in best[: len(good)]} == good

    async def test_the_failing_ones_are_left_out_and_come_back(self, region: Region) -> None:
        await region.add(*NAMES[:40])
        failing = {f"uid-w-{number}" for number in range(5)}
        region.resolver.observe([CallStats(f"uid-w-{number}", 1, 0, 10.0, 0) for number in range(40)])
        region.resolver.observe([CallStats(uid, 20, 20, 200.0, 0) for uid in failing])
        assert not failing & {each.uid for each in region.resolver.candidates(SEARCH).candidates}
        await region.clock.advance(3600)
        costs = {each.uid: each.success for each in region.resolver.candidates(SEARCH).candidates}
        assert all(success > 0.99 for success in costs.values())

    async def test_who_is_gone_is_not_offered_although_the_list_is_older(self, region: Region) -> None:
        await region.add(*NAMES)
        offered = region.names(SEARCH)
        await region.set_phase(offered[0], Phase.STOPPING)
        for _ in range(3):
            await region.clock.advance(POOL_S)
            assert offered[0] not in region.names(SEARCH)


class TestReasons:
    async def test_no_such_agent_names_the_nearest(self, region: Region) -> None:
        await region.add("search-0", "search-1")
        message = region.message(Target("default", "search-9"))
        assert message.startswith("there is no agent search-9 in default; did you mean search-")

    async def test_an_agent_that_is_not_ready_says_why(self, region: Region) -> None:
        await region.add("a", phase=Phase.BACKOFF, reason="StartFailed", message="no such model\nTraceback …")
        assert region.message(Target("default", "a")) == ("agent a is not ready: BackOff: StartFailed: no such model")

    async def test_an_unknown_capability_names_the_nearest(self, region: Region) -> None:
        await region.add("a")
        assert region.message(SEARCH._replace(capability="serach")) == (
            "no agent in default has serach; did you mean search?"
        )

    async def test_agents_that_have_it_and_are_not_ready_are_counted(self, region: Region) -> None:
        await region.add("a", "b", phase=Phase.STARTING)
        await region.add("c", phase=Phase.BACKOFF, reason="ImportFailed", message="no module")
        assert region.message(SEARCH) == (
            "no agent with search is ready in default: 2 × Starting; 1 × BackOff: ImportFailed: no module"
        )

    async def test_a_selector_that_matches_none_is_told_apart(self, region: Region) -> None:
        await region.add("a")
        assert region.message(SEARCH._replace(selector="tier=lead")) == (
            "1 agents in default have search, none matches tier=lead"
        )
        assert region.message(Target("default", "a", selector="tier=lead")) == "agent a does not match tier=lead"

    @pytest.mark.parametrize("selector", ["tier==", "tier in gold", "spec.colour=red", ",,=("])
    async def test_a_selector_that_cannot_be_read_says_so(self, region: Region, selector: str) -> None:
        await region.add("a")
        message = region.message(SEARCH._replace(selector=selector))
        assert selector in message


async def test_what_one_namespace_says_counts_for_no_other(region: Region) -> None:
    await region.add("good", "bad")
    resolvers, question = region.resolvers, Resolve(1, capability="search")
    honest = [CallStats("uid-good", 10, 0, 10.0, 0), CallStats("uid-bad", 10, 5, 5000.0, 0)]
    resolvers.observe("default", honest)
    before = await resolvers.answer("default", question)
    assert [candidate.name for candidate in before.candidates] == ["good", "bad"]
    resolvers.observe("elsewhere", [CallStats("uid-good", 64, 64, 1e6, 999), CallStats("uid-bad", 64, 0, 0.1, 0)])
    resolvers.observe("elsewhere", [CallStats(f"invented-{number}", 1, 0, 1.0, 0) for number in range(50_001)])
    assert await resolvers.answer("default", question) == before
