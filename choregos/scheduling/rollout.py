"""Plans the next step of a set towards its declared number and template. Pure; see Kubernetes' Deployment strategy.

Counts leave out agents that are being deleted already. Invariants of a step: it never takes the ready ones below
`desired` less what may be missing and never makes more than `desired` plus what may be extra; and as long as what was
created becomes ready, repeating it ends with exactly `desired` agents of the current template.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """A set as it is: agents of the current template (`new`) and of earlier ones (`old`)."""

    new_ready: int = 0
    new_unready: int = 0
    old_ready: int = 0
    old_unready: int = 0

    @property
    def total(self) -> int:
        return self.new_ready + self.new_unready + self.old_ready + self.old_unready


@dataclass(frozen=True, slots=True)
class Step:
    """How many to create of the current template, and how many to delete of each sort."""

    create: int = 0
    delete_new_ready: int = 0
    delete_new_unready: int = 0
    delete_old_ready: int = 0
    delete_old_unready: int = 0

    @property
    def deletes(self) -> int:
        return self.delete_new_ready + self.delete_new_unready + self.delete_old_ready + self.delete_old_unready


def plan_paused(desired: int, bounds: tuple[int, int], counts: Counts) -> Step:
    """The next step while nobody shall be replaced: only the number is kept.

    A replacement that is half done stands still: what is extra then may stay. Of too many, those that are not ready go
    first, and of earlier templates before the current one.

    Args:
        bounds: as of `plan_step`.
    """
    half_done = counts.new_ready + counts.new_unready and counts.old_ready + counts.old_unready
    left = max(0, counts.total - desired - (bounds[0] if half_done else 0))
    gone = []
    for each in (counts.old_unready, counts.new_unready, counts.old_ready, counts.new_ready):
        gone.append(min(each, left))
        left -= gone[-1]
    old_unready, new_unready, old_ready, new_ready = gone
    return Step(max(0, desired - counts.total), new_ready, new_unready, old_ready, old_unready)


def plan_step(desired: int, bounds: tuple[int, int], counts: Counts) -> Step:
    """The next step; an empty one when the set is as declared or has to wait for agents to become ready.

    Args:
        bounds: (most extra agents, most missing agents), not both 0; see `resources.percent.rollout_bounds`.
    """
    surge, unavailable = bounds
    # Ready agents that may go now. Unready ones serve nobody and may always go.
    spare = max(0, counts.new_ready + counts.old_ready - (desired - unavailable))
    new = counts.new_ready + counts.new_unready
    surplus = max(0, new - desired)
    delete_new_unready = min(surplus, counts.new_unready)
    delete_old_ready = min(counts.old_ready, spare)
    delete_new_ready = min(surplus - delete_new_unready, spare - delete_old_ready)
    # The places of agents deleted in this step are free for the next one only, whatever order the writes have.
    create = max(0, min(desired - new, desired + surge - counts.total))
    return Step(
        create=create,
        delete_new_ready=delete_new_ready,
        delete_new_unready=delete_new_unready,
        delete_old_ready=delete_old_ready,
        delete_old_unready=counts.old_unready,
    )
