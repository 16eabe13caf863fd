"""AgentCluster → AgentSets, and what became of them back into the cluster's status.

Owns the sets that a cluster's manifest asks for: creates, updates and deletes them, one per template and region, and
adopts those that name the cluster and have no controller. Invariant: a cluster keeps its finalizer until its last set
is gone. It never touches a set of the same name that is somebody else's, and it knows nothing of agents but the counts
of its sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from choregos.control.events import EventRecorder
from choregos.control.fleet.claims import Claims
from choregos.control.fleet.cluster_status import cluster_status
from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import CLUSTERS, SETS, FencedObjects
from choregos.control.owners import Owners
from choregos.control.pace import Pace
from choregos.foundation.clock import Clock
from choregos.foundation.errors import AlreadyExists
from choregos.resources import meta
from choregos.resources.expansion import agent_sets, owned_by, updated_set
from choregos.resources.kind import Object


class ClusterReconciler:
    """Drives one AgentCluster per key.

    Args:
        home: the region of what names none.
    """

    name = "agentclusters"

    def __init__(
        self,
        objects: FencedObjects,
        owners: Owners,
        claims: Claims,
        events: EventRecorder,
        clock: Clock,
        *,
        home: str,
    ) -> None:
        self._objects = objects
        self._owners = owners
        self._claims = claims
        self._events = events
        self._clock = clock
        self._home = home
        self._pace = Pace(clock)

    def keys(self) -> Iterable[Key]:
        for cluster in self._objects.list(CLUSTERS):
            yield Key(cluster["metadata"]["namespace"], cluster["metadata"]["name"])

    async def reconcile(self, key: Key) -> Result:
        cluster = self._objects.find(CLUSTERS, key.namespace, key.name)
        if cluster is None:
            self._pace.forget(key)
            self._claims.want(key, ())
            return DONE
        # Both of the same moment: a set that was let go because its cluster is being deleted is not taken back.
        owned, orphans = self._sets_of(cluster), list(self._claims.orphans(key))
        if meta.is_deleting(cluster):
            self._claims.want(key, ())
            return await self._delete(key, cluster, owned)
        if not meta.has_finalizer(cluster, meta.AGENTS_FINALIZER):
            held = meta.with_finalizer(cluster, meta.AGENTS_FINALIZER)
            cluster = await self._objects.update(CLUSTERS, cluster, held)
        adopted = [await self._adopt(cluster, orphan) for orphan in orphans if not meta.is_deleting(orphan)]
        sets, taken = await self._match(key, cluster, [*owned, *adopted])
        return await self._report(key, cluster, sets, taken)

    def _sets_of(self, cluster: Object) -> list[Object]:
        return [obj for resource, obj in self._owners.dependents(cluster) if resource == SETS]

    async def _adopt(self, cluster: Object, orphan: Object) -> Object:
        adopted = await self._objects.update(SETS, orphan, owned_by(cluster, orphan))
        name = adopted["metadata"]["name"]
        self._events.record(cluster, "Normal", "SuccessfulAdopt", f"adopted agent set {name}, which had no controller")
        return adopted

    async def _match(self, key: Key, cluster: Object, owned: Sequence[Object]) -> tuple[list[Object], list[str]]:
        """Makes the sets as the manifest wants them; returns them, and the names that others have."""
        by_name = {agent_set["metadata"]["name"]: agent_set for agent_set in owned}
        sets: list[Object] = []
        taken: list[str] = []
        wanted = agent_sets(cluster, self._home)
        # Before the first attempt, so that a name that gets free at any time from now on brings us back.
        self._claims.want(key, {desired["metadata"]["name"] for desired in wanted} - by_name.keys())
        for desired in wanted:
            name = desired["metadata"]["name"]
            existing = by_name.pop(name, None)
            if existing is None:
                try:
                    sets.append(await self._objects.create(SETS, desired))
                except AlreadyExists:
                    taken.append(name)
                    continue
                self._events.record(cluster, "Normal", "SuccessfulCreate", f"created agent set {name}")
            elif meta.is_deleting(existing):
                # It comes back once its agents have drained and it is gone.
                sets.append(existing)
            else:
                sets.append(await self._objects.update(SETS, existing, updated_set(existing, desired)))
        for surplus in by_name.values():
            if not meta.is_deleting(surplus):
                await self._objects.delete(SETS, surplus)
                name = surplus["metadata"]["name"]
                self._events.record(cluster, "Normal", "SuccessfulDelete", f"deleted agent set {name}")
        self._claims.want(key, taken)
        return sets, taken

    async def _delete(self, key: Key, cluster: Object, owned: Sequence[Object]) -> Result:
        if meta.has_finalizer(cluster, meta.ORPHAN_FINALIZER):
            return DONE  # the garbage collector lets the dependents go first, and its write brings us back
        for agent_set in owned:
            if not meta.is_deleting(agent_set):
                await self._objects.delete(SETS, agent_set)
        left = self._sets_of(cluster)
        if left:
            return await self._report(key, cluster, left, ())  # each change of a set wakes its cluster
        if meta.has_finalizer(cluster, meta.AGENTS_FINALIZER):
            await self._objects.release(CLUSTERS, cluster, meta.AGENTS_FINALIZER)
        return DONE

    async def _report(self, key: Key, cluster: Object, sets: Sequence[Object], taken: Sequence[str]) -> Result:
        status = cluster_status(cluster, sets, taken, self._clock.wall_ms())
        if status == cluster.get("status"):
            return DONE
        if (wait_s := self._pace.wait_s(key)) > 0:
            return Result(wait_s)
        await self._objects.write_status(CLUSTERS, cluster, status)
        self._pace.written(key)
        self._events.record_verdict(cluster, status)
        return DONE
