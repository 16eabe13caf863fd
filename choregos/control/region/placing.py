"""Asks the scheduler where agents go, with the region as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choregos.control.loop import Key
from choregos.control.region.census import Census
from choregos.control.region.needs import NeedsBook
from choregos.control.region.roster import Roster
from choregos.scheduling.placement import Placement, plan
from choregos.scheduling.snapshot import Needs, Request
from choregos.store.instance import Instance

UNSCHEDULABLE = "Unschedulable"
"""Reason of an agent that no node has room for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Places for some agents of one set and template."""

    set_key: Key
    set_uid: str
    template: str
    count: int


class Placer:
    """What a plan gives away must be entered in the census before the next one is made, with no await between."""

    def __init__(self, census: Census, roster: Roster, needs: NeedsBook) -> None:
        self._census = census
        self._roster = roster
        self._needs = needs

    def learn(self, digest: str, template: Mapping[str, Any]) -> None:
        """Takes a template that is about to be written, so that its agents can be placed and counted at once."""
        self._needs.learn(digest, template)

    def needs(self, instance: Instance) -> Needs:
        return self._needs.needs(instance.namespace, instance.record.template)

    def place(self, wanted: Sequence[Wanted]) -> tuple[Placement, ...]:
        requests = [
            Request(
                self._needs.needs(one.set_key.namespace, one.template),
                one.count,
                dict(self._census.tally(one.set_key, one.set_uid).nodes),
            )
            for one in wanted
        ]
        return plan(self._roster.snapshot(), requests).placements
