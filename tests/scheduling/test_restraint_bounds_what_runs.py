"""What a set makes stays near what it declares: while it is paused, and while its agents drain."""

from __future__ import annotations

import pytest

from choregos.resources.percent import rollout_bounds
from choregos.resources.quantity import parse_all
from choregos.scheduling.restraint import while_draining, while_paused
from choregos.scheduling.rollout import Counts
from choregos.scheduling.snapshot import Needs

SMALL = {"cpu": "1m", "memory": "1Mi"}
LARGE = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("made", "declared", "excess"),
    [
        (SMALL, SMALL, ""),
        (SMALL, LARGE, ""),
        (LARGE, {"cpu": "1", "memory": "1Gi", "gpu": "1"}, ""),
        ({}, {}, ""),
        (LARGE, SMALL, "1 cpu where 1m is declared, 1Gi memory where 1Mi is declared"),
        ({"cpu": "1"}, {"cpu": "2", "memory": "1Mi"}, ""),
        ({"cpu": "1", "memory": "2Mi"}, {"cpu": "2", "memory": "1Mi"}, "2Mi memory where 1Mi is declared"),
        ({**SMALL, "gpu": "1"}, SMALL, "1 gpu where 0 is declared"),
        (LARGE, {}, "1 cpu where 0 is declared, 1Gi memory where 0 is declared"),
    ],
)
def test_a_paused_set_makes_nothing_larger_than_it_declares(
    made: dict[str, str], declared: dict[str, str], excess: str
) -> None:
    needs = Needs(parse_all(made)), Needs(parse_all(declared))
    create, restraint = while_paused(7, *needs)
    assert create == (0 if excess else 7)
    if restraint is None:
        assert not excess
    else:
        assert restraint.message.startswith("7 more may not be made while the set is paused")
        assert f"need {excess}; resume it, or declare what they need" in restraint.message
        assert (restraint.reason, restraint.passes) == ("LargerThanDeclared", False)
    assert while_paused(0, *needs) == (0, None)


@pytest.mark.parametrize(
    ("create", "desired", "counts", "leaving", "made"),
    [
        (8, 8, Counts(), 0, 8),
        (8, 8, Counts(), 8, 8),  # all of a fleet were deleted at once
        (8, 8, Counts(), 10, 8),
        (8, 8, Counts(), 11, 7),  # of 18 that may be there
        (8, 8, Counts(), 18, 0),
        (8, 8, Counts(), 50, 0),
        (2, 8, Counts(new_ready=4, old_ready=2), 6, 2),  # on the way of a rollout whose old agents take their time
        (3, 8, Counts(new_unready=5), 10, 3),
        (3, 8, Counts(new_unready=5), 11, 2),
        (1, 1, Counts(), 1, 1),
        (1, 1, Counts(), 3, 0),
        (0, 0, Counts(), 40, 0),
        (0, 1, Counts(new_ready=1), 99, 0),
    ],
)
def test_agents_that_drain_count_once_they_are_more_than_a_set_can_replace(
    create: int, desired: int, counts: Counts, leaving: int, made: int
) -> None:
    bounds = rollout_bounds({}, desired)
    allowed, restraint = while_draining(create, desired, bounds, counts, leaving)
    assert allowed == made
    assert (restraint is None) == (made == create)
    if restraint is not None:
        assert (restraint.reason, restraint.passes) == ("Draining", True)
        assert restraint.message == (
            f"{create - made} more are made as soon as others have drained: {leaving} still do, and a set that shall "
            f"have {desired} has at most {2 * desired + bounds[0]} at once"
        )


def test_a_large_surge_makes_no_more_room_for_agents_that_drain() -> None:
    for surge, desired, most in ((1000, 1, 3), (1000, 4, 12), (2, 4, 10), (0, 4, 8)):
        made, restraint = while_draining(desired, desired, (surge, 1), Counts(), most - 1)
        assert (made, restraint is None) == (1, desired == 1)
