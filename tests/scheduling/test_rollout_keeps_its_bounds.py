"""Rolling replacement: never too few ready, never too many in all, always comes to an end."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.resources.percent import rollout_bounds
from choregos.scheduling.rollout import Counts, Step, plan_paused, plan_step


@pytest.mark.parametrize(
    ("desired", "counts", "step"),
    [
        (3, Counts(), Step(create=3)),
        (3, Counts(new_ready=3), Step()),
        (3, Counts(new_ready=1, new_unready=4), Step(delete_new_unready=2)),
        (2, Counts(new_ready=4, new_unready=1), Step(delete_new_unready=1, delete_new_ready=2)),
        (8, Counts(old_ready=8), Step(create=2, delete_old_ready=2)),
        (8, Counts(old_ready=6, old_unready=2), Step(create=2, delete_old_unready=2)),
        (8, Counts(old_ready=6, new_unready=4), Step()),
        (8, Counts(old_ready=6, new_ready=2, new_unready=2), Step(delete_old_ready=2)),
        (0, Counts(old_ready=2, new_ready=1, new_unready=1), Step(0, 1, 1, 2, 0)),
    ],
)
def test_one_step(desired: int, counts: Counts, step: Step) -> None:
    assert plan_step(desired, rollout_bounds({}, desired), counts) == step


limit = st.one_of(st.integers(0, 12), st.integers(0, 100).map(lambda percent: f"{percent}%"))


@given(
    desired=st.integers(0, 40),
    strategy=st.fixed_dictionaries({"maxSurge": limit, "maxUnavailable": limit}),
    start=st.builds(Counts, *[st.integers(0, 15)] * 4),
    seed=st.integers(0, 2**32),
)
def test_every_rollout_ends_within_its_bounds(
    desired: int, strategy: dict[str, int | str], start: Counts, seed: int
) -> None:
    die = Random(seed)
    surge, unavailable = bounds = rollout_bounds(strategy, desired)
    counts = start
    for _ in range(500):
        step = plan_step(desired, bounds, counts)
        ready = counts.new_ready + counts.old_ready
        if step.create:
            assert counts.total + step.create <= desired + surge
        if step.delete_new_ready or step.delete_old_ready:
            assert ready - step.delete_new_ready - step.delete_old_ready >= desired - unavailable
        after = Counts(
            counts.new_ready - step.delete_new_ready,
            counts.new_unready - step.delete_new_unready + step.create,
            counts.old_ready - step.delete_old_ready,
            counts.old_unready - step.delete_old_unready,
        )
        assert min(after.new_ready, after.new_unready, after.old_ready, after.old_unready) >= 0
        if step == Step() and not counts.new_unready:
            break
        started = die.randint(0 if step != Step() else 1, after.new_unready) if after.new_unready else 0
        counts = Counts(after.new_ready + started, after.new_unready - started, after.old_ready, after.old_unready)
    assert counts == Counts(new_ready=desired)


@pytest.mark.parametrize(
    ("desired", "counts", "step"),
    [
        (3, Counts(old_ready=3), Step()),
        (2, Counts(old_ready=3), Step(delete_old_ready=1)),
        (5, Counts(old_ready=2, new_ready=1), Step(create=2)),
        (5, Counts(old_ready=5, new_ready=1), Step()),
        (2, Counts(2, 1, 2, 1), Step(delete_old_unready=1, delete_new_unready=1, delete_old_ready=1)),
        (0, Counts(1, 1, 1, 1), Step(0, 0, 1, 1, 1)),
    ],
)
def test_one_step_while_paused(desired: int, counts: Counts, step: Step) -> None:
    assert plan_paused(desired, (1, 0), counts) == step


@given(desired=st.integers(0, 40), surge=st.integers(0, 9), counts=st.builds(Counts, *[st.integers(0, 15)] * 4))
def test_while_paused_only_the_number_changes(desired: int, surge: int, counts: Counts) -> None:
    step = plan_paused(desired, (surge, 1), counts)
    after = counts.total + step.create - step.deletes
    half_done = counts.new_ready + counts.new_unready and counts.old_ready + counts.old_unready
    assert after == min(max(counts.total, desired), desired + surge if half_done else desired)
    assert not (step.create and step.deletes)
    assert step.delete_old_ready <= counts.old_ready
    unready_left = counts.new_unready + counts.old_unready - step.delete_new_unready - step.delete_old_unready
    assert not (step.delete_new_ready + step.delete_old_ready and unready_left)
