"""What one namespace uses of what ResourceQuotas limit, kept up to date object by object. Pure.

Invariant: after any history its answers are those of `usage.used` for the objects that remain, to the last
thousandth. A change costs as much as the object itself is large, however many others there are: a set counts for itself
or for what it has beyond its share, and with a cluster only the sets change that it asks for by name, before or after.
It neither judges nor stores; whoever wants to know what a change would mean makes it, asks, and takes it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from choregos.resources import meta
from choregos.resources.expansion import Share, shares
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.quantity import Milli
from choregos.resources.quotas.usage import (
    DECLARING,
    Objects,
    add,
    controller_of,
    nothing,
    of_set,
    of_share,
    share_name,
    used_of,
)
from choregos.resources.registry import COUNTED

_HELD = DECLARING | frozenset(COUNTED.values())


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a cluster asks for.

    Attributes:
        by_set: its shares by the names of their sets; of two of one name the first, which the set counts for.
    """

    uid: str
    shares: tuple[Share, ...]
    by_set: Mapping[str, Share]


class Ledger:
    """Of the objects of one namespace."""

    def __init__(self, objects: Objects) -> None:
        self._objects: dict[str, dict[str, ReadOnlyObject]] = {resource: {} for resource in _HELD}
        self._clusters: dict[str, _Asked] = {}  # by name, without those being deleted
        self._totals = {True: nothing(), False: nothing()}  # with what agents hold, and without
        for resource in _HELD:
            for obj in objects(resource):
                self.replace(resource, obj["metadata"]["name"], obj)

    def count(self, resource: str) -> int:
        return len(self._objects[resource])

    def has(self, resource: str, name: str) -> bool:
        return name in self._objects[resource]

    def used(self, names: Iterable[str], written: str = "", *, held: bool = True) -> dict[str, Milli]:
        """How much of each name is used, in thousandths; as `usage.used`.

        Args:
            written, held: as of `usage.declared`.
        """
        amounts = self._totals[held]
        found = self._objects[AGENTSET.plural].get(written)
        if found is not None:
            share, amounts = self._share(found), dict(amounts)
            add(amounts, of_set(found, share, held=held), -1)
            add(amounts, of_set(found, share, written, held=held))
        return used_of(names, amounts, self.count)

    def replace(self, resource: str, name: str, obj: ReadOnlyObject | None) -> ReadOnlyObject | None:
        """Takes an object as it is now, None if it is gone; returns it as it was, for taking the change back.

        Raises:
            Exception: it is no such object; the ledger is of no use any more.
        """
        held = self._objects.get(resource)
        if held is None:
            return None
        previous = held.get(name)
        if resource == AGENTSET.plural:
            self._replace_set(previous, obj)
        elif resource == AGENTCLUSTER.plural:
            self._replace_cluster(name, obj)
        if obj is None:
            held.pop(name, None)
        else:
            held[name] = obj
        return previous

    def _replace_set(self, previous: ReadOnlyObject | None, obj: ReadOnlyObject | None) -> None:
        if previous is not None:
            self._add_set(previous, -1)
        if obj is not None:
            self._add_set(obj, 1)

    def _replace_cluster(self, name: str, obj: ReadOnlyObject | None) -> None:
        before, after = self._clusters.get(name), _asked(obj)
        sets = self._objects[AGENTSET.plural]
        names = {each for asked in (before, after) if asked is not None for each in asked.by_set}
        concerned = [sets[each] for each in names if each in sets]
        for agent_set in concerned:
            self._add_set(agent_set, -1)
        self._add_shares(before, -1)
        if after is None:
            self._clusters.pop(name, None)
        else:
            self._clusters[name] = after
        self._add_shares(after, 1)
        for agent_set in concerned:
            self._add_set(agent_set, 1)

    def _add_shares(self, asked: _Asked | None, times: int) -> None:
        for share in asked.shares if asked is not None else ():
            for total in self._totals.values():
                add(total, of_share(share), times)

    def _add_set(self, agent_set: ReadOnlyObject, times: int) -> None:
        """Counts a set for itself, or for what it has beyond the share of a cluster that asks for it."""
        share = self._share(agent_set)
        for held, total in self._totals.items():
            add(total, of_set(agent_set, share, held=held), times)
            if share is not None:
                add(total, of_share(share), -times)

    def _share(self, agent_set: ReadOnlyObject) -> Share | None:
        controller = controller_of(agent_set)
        if controller is None:
            return None
        name, uid = controller
        asked = self._clusters.get(name)
        return asked.by_set.get(agent_set["metadata"]["name"]) if asked is not None and asked.uid == uid else None


def _asked(cluster: ReadOnlyObject | None) -> _Asked | None:
    if cluster is None or meta.is_deleting(cluster):
        return None
    metadata = cluster["metadata"]
    every = tuple(shares(cluster["spec"]))
    by_set: dict[str, Share] = {}
    for share in every:
        by_set.setdefault(share_name(metadata["name"], share.entry["name"], share.region), share)
    return _Asked(metadata["uid"], every, by_set)
