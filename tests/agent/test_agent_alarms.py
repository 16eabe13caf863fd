"""Nobody who waits is forgotten, whatever the loop's timers do: simulated time, timers that fire early and late."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from choregos.agent.alarms import Alarms
from choregos.agent.contract import Assignment
from choregos.agent.supervision import (
    Assigned,
    Event,
    Failed,
    Life,
    Moment,
    Placed,
    Start,
    StartEnded,
    WakeAt,
    Woken,
    WorkerLost,
    step,
)
from choregos.foundation.backoff import Backoff
from choregos.wire.instances import Phase
from choregos.wire.worker import Template

BACKOFF = Backoff(initial_s=1.0, max_s=300.0, jitter=0.1, reset_after_s=600.0)
TEMPLATE = Template("d1", "t", python="m:C")
EARLY_S, LATE_S = 2.0, 5.0


class Timer:
    def __init__(self, at_s: float, function: Callable[[], None]) -> None:
        self.at_s = at_s
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A clock that goes on with each look at it, and timers of a loop that has another idea of time."""

    def __init__(self, dice: random.Random) -> None:
        self.now_s = 1.0
        self.dice = dice
        self.timers: list[Timer] = []

    def monotonic(self) -> float:
        self.now_s += self.dice.random() * 0.001
        return self.now_s

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        assert delay_s > 0.0, "a loop would run it again and again without pause"
        timer = Timer(max(self.now_s, self.now_s + delay_s + self.dice.uniform(-EARLY_S, LATE_S)), function)
        self.timers.append(timer)
        return timer

    def run(self, until_s: float) -> None:
        """Fires what is due by then."""
        for _ in range(10_000):
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            first = min(self.timers, key=lambda timer: timer.at_s, default=None)
            if first is None or first.at_s > until_s:
                break
            self.timers.remove(first)
            self.now_s = max(self.now_s, first.at_s)
            first.function()
        else:
            raise AssertionError("timers fire without end")
        self.now_s = max(self.now_s, until_s)


class Keeper:
    """Lives, alarms, and a worker for whoever wants one: as the host has them."""

    def __init__(self, world: World, count: int) -> None:
        self.world = world
        self.alarms = Alarms(world, world.call_later, self.wake)
        self.lives = {f"u{number}": life(f"u{number}") for number in range(count)}
        for uid, each in self.lives.items():
            self.tell(uid, Assigned(each.assignment))

    def wake(self, uids: Sequence[str]) -> None:
        for uid in uids:
            self.tell(uid, Woken())

    def tell(self, uid: str, event: Event) -> None:
        moment = Moment(self.world.monotonic(), 0, self.world.dice.random())
        for instruction in step(self.lives[uid], event, moment, BACKOFF):
            if isinstance(instruction, WakeAt):
                self.alarms.set(uid, instruction.at_s)
            elif isinstance(instruction, Start):
                self.tell(uid, Placed("w"))
                self.tell(uid, StartEnded())


def life(uid: str) -> Life:
    return Life(Assignment("ns", uid, uid, 1, TEMPLATE), 0)


ENDS = st.sampled_from([WorkerLost("killed"), Failed("ProbeFailed", ""), WorkerLost("blocked", innocent=True)])


@given(st.lists(st.tuples(ENDS, st.floats(0.0, 30.0)), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_whoever_waits_is_started_again(ends, dice):
    world = World(dice)
    keeper = Keeper(world, 20)
    for event, pause_s in ends:
        for uid in keeper.lives:
            if dice.random() < 0.8:
                keeper.tell(uid, event)
        world.run(world.now_s + pause_s)
    # The longest delay there is, and once more of it: a timer that came early has then been set again.
    world.run(world.now_s + 2 * BACKOFF.max_s)
    assert {each.phase for each in keeper.lives.values()} == {Phase.RUNNING}
    assert not keeper.alarms


@given(st.randoms(use_true_random=False))
def test_nobody_is_woken_before_the_time_by_the_clock(dice):
    world, woken = World(dice), []
    wishes = {f"u{number}": world.now_s + dice.uniform(0.0, 20.0) for number in range(50)}

    def wake(uids: Sequence[str]) -> None:
        assert all(wishes[uid] <= world.now_s for uid in uids)
        woken.extend(uids)

    alarms = Alarms(world, world.call_later, wake)
    for uid, at_s in wishes.items():
        alarms.set(uid, at_s)
    world.run(world.now_s + 100.0)
    assert sorted(woken) == sorted(wishes)


def test_the_last_wish_of_a_uid_counts_and_a_dropped_one_does_not():
    world, woken = World(random.Random(1)), []
    alarms = Alarms(world, world.call_later, woken.extend)
    for at_s in (5.0, 50.0, 20.0):
        alarms.set("ada", at_s)
    alarms.set("bob", 10.0)
    alarms.drop("bob")
    world.run(19.0 - EARLY_S)
    assert woken == []
    world.run(100.0)
    assert woken == ["ada"]


def test_wishes_that_are_replaced_again_and_again_take_no_room():
    world = World(random.Random(1))
    alarms = Alarms(world, world.call_later, lambda uids: None)
    for number in range(10_000):
        alarms.set(f"u{number % 10}", 1000.0 + number)
    assert len(alarms) == 10
    assert len(alarms._order) < 200
    assert sum(not timer.cancelled for timer in world.timers) == 1


def test_after_close_nobody_is_woken():
    world, woken = World(random.Random(1)), []
    alarms = Alarms(world, world.call_later, woken.extend)
    alarms.set("ada", 5.0)
    alarms.close()
    world.run(100.0)
    assert woken == []
