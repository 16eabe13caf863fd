"""At most one leader acts: leases, epochs, pauses, failures of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Deposed, Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.backends.jetstream import JetStreamLog
from choregos.store.backends.memory import MemoryLog
from choregos.store.leases.election import LeaderElection
from choregos.store.leases.heartbeat import Heartbeat, LeaseObserver
from choregos.store.port import Fence, Record, Write
from choregos.testing.sim_clock import SimClock

SCOPE = "test"


class FaultyLog(MemoryLog):
    """A memory log that cannot be reached, or loses answers, on demand."""

    unreachable = False
    loses_answers = False
    error: Exception = Temporary("deliberate")

    async def append(self, write: Write, *, fence: Fence | None = None) -> int:
        self._fail_if(self.unreachable)
        sequence = await super().append(write, fence=fence)
        self._fail_if(self.loses_answers)
        return sequence

    async def append_batch(self, writes: Sequence[Write], *, fence: Fence | None = None) -> Sequence[int]:
        self._fail_if(self.unreachable)
        sequences = await super().append_batch(writes, fence=fence)
        self._fail_if(self.loses_answers)
        return sequences

    async def last(self, subject: str) -> Record | None:
        self._fail_if(self.unreachable)
        return await super().last(subject)

    def _fail_if(self, broken: bool) -> None:
        if broken:
            raise self.error


class Candidate:
    """One process that stands for election and remembers when it led."""

    def __init__(
        self, log: MemoryLog | JetStreamLog, holder: str, clock: SimClock | SystemClock, duration_s: float = 15.0
    ) -> None:
        self.election = LeaderElection(log, SCOPE, "region", holder, clock, duration_s=duration_s)
        self.fence: Fence | None = None
        self.terms = 0
        self.changed = asyncio.Event()
        self.work: Callable[[], object] | None = None

    async def started(self, fence: Fence) -> None:
        self.fence = fence
        self.terms += 1
        self.changed.set()
        try:
            if self.work is not None:
                self.work()
            await asyncio.Event().wait()
        finally:
            self.fence = None

    async def run(self) -> None:
        await self.election.run(self.started)


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def log(clock: SimClock) -> FaultyLog:
    return FaultyLog(clock)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    async with Tasks() as tasks:
        yield tasks


async def test_one_of_two_leads_and_keeps_leading(log: FaultyLog, clock: SimClock, tasks: Tasks) -> None:
    one, two = Candidate(log, "one", clock), Candidate(log, "two", clock)
    for candidate in (one, two):
        tasks.start(candidate.run(), "candidate")
        await clock.advance(0)
    await clock.advance(3600)
    assert (one.terms, two.terms) == (1, 0)
    assert one.election.leads
    assert not two.election.leads
    epoch = await log.last("al.test.region.epoch")
    assert epoch is not None
    assert one.fence is not None
    assert epoch.sequence == one.fence.epoch


async def test_the_other_leads_soon_after_a_release(log: FaultyLog, clock: SimClock, tasks: Tasks) -> None:
    one, two = Candidate(log, "one", clock), Candidate(log, "two", clock)
    first = tasks.start(one.run(), "one")
    await clock.advance(1)
    tasks.start(two.run(), "two")
    await clock.advance(60)
    first.cancel()
    await asyncio.wait([first])
    assert one.fence is None
    await clock.advance(2)
    assert two.election.leads
    assert two.fence is not None


async def test_a_dead_leader_is_followed_after_its_lease_and_no_sooner(
    log: FaultyLog, clock: SimClock, tasks: Tasks
) -> None:
    one, two = Candidate(log, "one", clock), Candidate(log, "two", clock)
    dead = tasks.start(one.run(), "one")
    await clock.advance(0)
    tasks.start(two.run(), "two")
    await clock.advance(4)  # the lease was taken at 0 and is renewed at 5
    one.election._release = forget_to_release  # type: ignore[method-assign]
    dead.cancel()
    await asyncio.wait([dead])
    await clock.advance(10.5)
    assert two.terms == 0
    await clock.advance(2)
    assert two.terms == 1


async def forget_to_release() -> None:
    """What a process that is killed does."""


async def test_a_leader_that_cannot_renew_has_stopped_before_another_leads(
    log: FaultyLog, clock: SimClock, tasks: Tasks
) -> None:
    one, two = Candidate(log, "one", clock), Candidate(log, "two", clock)
    tasks.start(one.run(), "one")
    await clock.advance(0)
    log.unreachable = True
    tasks.start(two.run(), "two")
    while one.fence is not None:
        await clock.advance(0.25)
    assert clock.monotonic() < 15.0
    assert not one.election.leads
    log.unreachable = False
    await clock.advance(40)
    assert one.terms + two.terms == 2
    assert (one.fence is None) != (two.fence is None)


async def test_an_outage_shorter_than_the_lease_changes_no_leader(
    log: FaultyLog, clock: SimClock, tasks: Tasks
) -> None:
    one, two = Candidate(log, "one", clock), Candidate(log, "two", clock)
    tasks.start(one.run(), "one")
    await clock.advance(0)
    tasks.start(two.run(), "two")
    for _ in range(20):
        await clock.advance(20)
        log.unreachable = True
        await clock.advance(6)
        log.unreachable = False
    assert (one.terms, two.terms) == (1, 0)


async def test_renewals_whose_answers_are_lost_change_no_leader(log: FaultyLog, clock: SimClock, tasks: Tasks) -> None:
    one = Candidate(log, "one", clock)
    tasks.start(one.run(), "one")
    await clock.advance(0)
    for _ in range(20):
        log.loses_answers = True
        await clock.advance(6)
        log.loses_answers = False
        await clock.advance(20)
    assert one.terms == 1
    assert one.election.leads


async def test_a_paused_leader_is_fenced_out(log: FaultyLog, clock: SimClock, tasks: Tasks) -> None:
    """It stops between deciding and writing for longer than its lease; meanwhile another leads."""
    one = Candidate(log, "one", clock)
    paused = tasks.start(one.run(), "one")
    await clock.advance(0)
    fence = one.fence
    assert fence is not None
    one.election._release = forget_to_release  # type: ignore[method-assign]
    paused.cancel()
    two = Candidate(log, "two", clock)
    tasks.start(two.run(), "two")
    await clock.advance(20)
    assert two.fence is not None
    with pytest.raises(Deposed):
        await log.append(Write("a.test.ns.x", b"late"), fence=fence)
    with pytest.raises(Deposed):
        await log.append_batch([Write("a.test.ns.x", b"late", expected=0)], fence=fence)
    await log.append(Write("a.test.ns.x", b"in time", expected=0), fence=two.fence)


async def test_work_that_fails_gives_the_lease_up_and_does_not_win_it_in_a_rush(
    log: FaultyLog, clock: SimClock, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    one = Candidate(log, "one", clock)

    def fail() -> None:
        raise RuntimeError("deliberate")

    one.work = fail
    tasks.start(one.run(), "one")
    await clock.advance(60)
    assert 10 < one.terms < 100
    told = [entry.getMessage() for entry in caplog.records if entry.exc_info]
    assert told == ["one resigns: lead test/region failed"] * one.terms
    one.work = None
    await clock.advance(10)
    terms = one.terms
    await clock.advance(100)
    assert one.election.leads
    assert one.terms == terms


async def test_a_leader_that_resigns_lets_another_lead(log: FaultyLog, clock: SimClock, tasks: Tasks) -> None:
    one, two = Candidate(log, "one", clock), Candidate(log, "two", clock)
    for candidate in (one, two):
        tasks.start(candidate.run(), "candidate")
        await clock.advance(0)
    one.election.resign()
    await clock.advance(30)
    assert one.terms + two.terms == 2


@pytest.mark.parametrize("outage_s", [3, 40])
async def test_an_unexpected_error_ends_no_candidacy(
    log: FaultyLog, clock: SimClock, tasks: Tasks, outage_s: float
) -> None:
    one, two = Candidate(log, "one", clock), Candidate(log, "two", clock)
    candidates = [tasks.start(candidate.run(), "candidate") for candidate in (one, two)]
    await clock.advance(4)
    log.error, log.unreachable = RuntimeError("deliberate"), True
    await clock.advance(outage_s)
    log.unreachable = False
    await clock.advance(20)
    assert one.election.leads != two.election.leads
    log.unreachable = True
    for candidate in candidates:
        candidate.cancel()
    await asyncio.wait(candidates)
    assert all(candidate.cancelled() for candidate in candidates)


async def test_a_lease_that_cannot_be_read_is_nobodys(log: FaultyLog, clock: SimClock, tasks: Tasks) -> None:
    one = Candidate(log, "one", clock)
    await log.append(Write("al.test.region.lease", b"{"))
    tasks.start(one.run(), "candidate")
    await clock.advance(2)
    assert one.election.leads
    await log.append(Write("al.test.region.lease", b"{"))
    await clock.advance(20)
    assert (one.terms, one.election.leads) == (2, True)
    await log.append(Write("al.test.node-n1.lease", b"{"))
    async with Heartbeat(log, SCOPE, "node-n1", "p1", clock), LeaseObserver(log, SCOPE, clock) as observer:
        assert observer.holder("n1") == "p1"


@pytest.mark.real
async def test_two_candidates_on_a_real_log(jetstream_log: JetStreamLog, tasks: Tasks) -> None:
    clock = SystemClock()
    one, two = (Candidate(jetstream_log, holder, clock, duration_s=0.6) for holder in ("one", "two"))
    first = tasks.start(one.run(), "one")
    async with asyncio.timeout(20):
        await one.changed.wait()
        tasks.start(two.run(), "two")
        fence = one.fence
        assert fence is not None
        await jetstream_log.append(Write("a.1", b"", expected=0), fence=fence)
        first.cancel()
        await two.changed.wait()
    with pytest.raises(Deposed):
        await jetstream_log.append(Write("a.2", b"", expected=0), fence=fence)


async def test_a_silent_node_is_found_and_one_that_speaks_is_not(log: FaultyLog, clock: SimClock) -> None:
    async with (
        LeaseObserver(log, SCOPE, clock) as observer,
        Heartbeat(log, SCOPE, "node-busy", "p1", clock),
    ):
        async with Heartbeat(log, SCOPE, "node-gone", "p2", clock):
            await clock.advance(0)
            assert observer.names() == ["busy", "gone"]
        await clock.advance(39)
        assert observer.alive("gone")
        await clock.advance(2)
        assert not observer.alive("gone")
        assert observer.alive("busy")
        assert observer.holder("gone") == "p2"
        assert not observer.alive("unknown")


async def test_an_observer_that_was_away_presumes_nobody_dead(log: FaultyLog, clock: SimClock) -> None:
    async with Heartbeat(log, SCOPE, "node-n1", "p1", clock):
        pass
    await clock.advance(3600)
    async with LeaseObserver(log, SCOPE, clock) as observer:
        assert observer.alive("n1")
        await clock.advance(41)
        assert not observer.alive("n1")


async def test_the_latest_process_of_a_node_holds_its_lease(log: FaultyLog, clock: SimClock) -> None:
    async with (
        Heartbeat(log, SCOPE, "node-n1", "old", clock) as old,
        Heartbeat(log, SCOPE, "node-n1", "new", clock) as new,
    ):
        await clock.advance(60)
        assert (old.superseded, new.superseded) == (True, False)


@pytest.mark.parametrize("error", [Temporary("deliberate"), RuntimeError("deliberate")])
async def test_a_heartbeat_survives_an_outage(log: FaultyLog, clock: SimClock, error: Exception) -> None:
    log.error = error
    async with LeaseObserver(log, SCOPE, clock) as observer, Heartbeat(log, SCOPE, "node-n1", "p1", clock):
        log.unreachable = True
        await clock.advance(100)
        assert not observer.alive("n1")
        log.unreachable = False
        await clock.advance(11)
        assert observer.alive("n1")
