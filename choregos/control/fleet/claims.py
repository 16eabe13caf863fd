"""What clusters may lay claim to: sets that name them and have no controller, and names that others have now.

Kept from the store's changes so that nobody scans for them. Invariant: between `observe` of one batch of changes and
the next, a set is among the orphans of a cluster exactly if its `spec.cluster` names that cluster and none of its
owners is its controller. What it hands out is as the store has it now. It raises no claim: the clusters' reconciler
does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from choregos.control.loop import Key
from choregos.control.objects import SETS, FencedObjects
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.store.resources import Change
from choregos.store.watch import ChangeType


class Claims:
    """Empty until `load` has read what is there; from then on it has to be told of every change."""

    def __init__(self, objects: FencedObjects) -> None:
        self._objects = objects
        self._orphans: dict[Key, set[str]] = {}  # cluster → names of sets
        self._wanted: dict[Key, frozenset[str]] = {}  # cluster → names that it could not have, never empty

    def load(self) -> None:
        for agent_set in self._objects.list(SETS):
            self._enter(agent_set)

    def observe(self, change: Change) -> None:
        if change.resource != SETS:
            return
        if change.previous is not None:
            self._leave(change.previous)
        if change.type is not ChangeType.DELETED:
            self._enter(change.object)

    def orphans(self, cluster: Key) -> Iterator[Object]:
        """The sets that say they are this cluster's and that nobody controls, in order of their names."""
        for name in sorted(self._orphans.get(cluster, ())):
            found = self._objects.find(SETS, cluster.namespace, name)
            if found is not None:
                yield found

    def want(self, cluster: Key, names: Iterable[str]) -> None:
        """From now on the cluster wants these names, and no others, as soon as they are free."""
        wanted = frozenset(names)
        if wanted:
            self._wanted[cluster] = wanted
        else:
            self._wanted.pop(cluster, None)

    def wanting(self, agent_set: ReadOnlyObject) -> Iterator[Key]:
        """The clusters that want the name of this set."""
        namespace, name = agent_set["metadata"]["namespace"], agent_set["metadata"]["name"]
        return (cluster for cluster, names in self._wanted.items() if cluster.namespace == namespace and name in names)

    def _enter(self, agent_set: ReadOnlyObject) -> None:
        if (cluster := _orphan_of(agent_set)) is not None:
            self._orphans.setdefault(cluster, set()).add(agent_set["metadata"]["name"])

    def _leave(self, agent_set: ReadOnlyObject) -> None:
        if (cluster := _orphan_of(agent_set)) is not None:
            names = self._orphans.get(cluster, set())
            names.discard(agent_set["metadata"]["name"])
            if not names:
                self._orphans.pop(cluster, None)


def _orphan_of(agent_set: ReadOnlyObject) -> Key | None:
    """The cluster that it names, if nobody controls it."""
    metadata, cluster = agent_set["metadata"], agent_set["spec"].get("cluster")
    controlled = any(reference.get("controller") for reference in metadata.get("ownerReferences") or ())
    return Key(metadata["namespace"], cluster) if cluster and not controlled else None
