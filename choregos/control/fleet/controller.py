"""Puts the fleet's reconcilers together and runs them while this process leads the fleet.

Owns the wiring of one term of leadership: which change wakes which key. What a term is: `choregos.control.term`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from choregos.control.events import EventRecorder
from choregos.control.fleet.abandoned import AbandonedSets
from choregos.control.fleet.accounts import AccountReconciler
from choregos.control.fleet.claims import Claims
from choregos.control.fleet.clusters import ClusterReconciler
from choregos.control.fleet.garbage import GarbageReconciler, garbage_key
from choregos.control.fleet.namespaces import NamespaceReconciler
from choregos.control.fleet.quotas import QuotaReconciler
from choregos.control.fleet.roles import RoleReconciler
from choregos.control.loop import Key, LoopSettings
from choregos.control.objects import ACCOUNTS, CLUSTERS, NAMESPACES, SETS, FencedObjects
from choregos.control.owners import Owners
from choregos.control.term import Leader, Term
from choregos.foundation.clock import Clock
from choregos.foundation.ids import IdSource
from choregos.resources import meta
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.registry import KINDS
from choregos.store.leases.election import LeaderElection
from choregos.store.port import Fence
from choregos.store.resources import Change, ResourceStore
from choregos.store.watch import ChangeType

LOOP = LoopSettings(workers=8)


@dataclass(frozen=True, slots=True)
class FleetStores:
    """What the fleet's controllers read and write.

    Attributes:
        events: to tell what happens. recorded_events: what was told, by whomever.
        home: the region of clusters that name none.
    """

    resources: ResourceStore
    events: EventRecorder
    recorded_events: ResourceStore
    home: str = meta.LOCAL_REGION


class FleetController(Leader):
    """Leads the fleet whenever it is elected."""

    def __init__(self, stores: FleetStores, election: LeaderElection, clock: Clock, ids: IdSource) -> None:
        super().__init__("fleet", election)
        self._stores = stores
        self._clock = clock
        self._ids = ids

    async def _begin(self, fence: Fence) -> FleetTerm:
        return FleetTerm(self._stores, fence, self._clock, self._ids)


class FleetTerm(Term):
    """One term of the fleet's leader."""

    def __init__(self, stores: FleetStores, fence: Fence, clock: Clock, ids: IdSource) -> None:
        super().__init__(clock)
        self._resources = stores.resources
        objects = FencedObjects(stores.resources, fence, clock, ids)
        kinds = [kind for kind in KINDS if kind.plane == "declarative"]
        self._owners = Owners(objects, [kind.plural for kind in kinds])
        self._judge = GarbageReconciler(objects, self._owners, kinds)
        self._claims = Claims(objects)
        clusters = ClusterReconciler(objects, self._owners, self._claims, stores.events, clock, home=stores.home)
        self._clusters = self._controller(clusters, LOOP)
        self._abandoned = self._controller(AbandonedSets(objects, stores.events, clock))
        self._garbage = self._controller(self._judge, LOOP)
        self._recorded_events = stores.recorded_events
        self._namespace_keeper = NamespaceReconciler(objects, kinds, stores.recorded_events, clock)
        self._namespaces = self._controller(self._namespace_keeper, LOOP)
        self._accounts = self._controller(AccountReconciler(objects))
        self._role_keeper = RoleReconciler(objects)
        self._roles = self._controller(self._role_keeper)
        self._quota_keeper = QuotaReconciler(objects, clock)
        self._quotas = self._controller(self._quota_keeper)

    async def _open(self, stack: AsyncExitStack) -> None:
        self._owners.load()
        self._claims.load()
        stack.callback(self._resources.on_change(self._changed))
        stack.callback(self._recorded_events.on_change(self._event_recorded))
        of_agents = (self._clusters, self._abandoned)
        of_namespaces = (self._garbage, self._namespaces, self._accounts, self._roles, self._quotas)
        for controller in (*of_agents, *of_namespaces):
            await stack.enter_async_context(controller)

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._owners.observe(change)
            self._claims.observe(change)
        for change in changes:
            metadata = change.object["metadata"]
            if change.resource == CLUSTERS:
                self._clusters.wake(Key(metadata["namespace"], metadata["name"]))
            elif change.resource == SETS:
                for name in _clusters_of(change.object):
                    self._clusters.wake(Key(metadata["namespace"], name))
                if change.type is ChangeType.DELETED:
                    for key in self._claims.wanting(change.object):
                        self._clusters.wake(key)
                if meta.is_deleting(change.object):
                    self._abandoned.wake(Key(metadata["namespace"], metadata["name"]))
            elif change.resource == NAMESPACES:
                self._namespaces.wake(Key("", metadata["name"]))
                self._accounts.wake(Key("", metadata["name"]))
            elif change.resource == ACCOUNTS:
                self._accounts.wake(Key("", metadata["namespace"]))
            concerned = (
                (self._roles, self._role_keeper.concerned(change)),
                (self._quotas, self._quota_keeper.concerned(change)),
                (self._garbage, self._garbage_of(change)),
            )
            for controller, keys in concerned:
                for key in keys:
                    controller.wake(key)

    def _event_recorded(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for key in self._namespace_keeper.concerned(change):
                self._namespaces.wake(key)

    def _garbage_of(self, change: Change) -> Iterator[Key]:
        if change.type is ChangeType.DELETED:
            for resource, dependent in self._owners.dependents(change.object):
                yield garbage_key(resource, dependent)
            yield from self._judge.owners(change.object)  # one of them may wait for its dependents to go
        elif change.object["metadata"].get("ownerReferences") or meta.is_deleting(change.object):
            yield garbage_key(change.resource, change.object)


def _clusters_of(agent_set: ReadOnlyObject) -> set[str]:
    """The names of those it belongs to, or says that it does: whoever writes a set can leave out either."""
    references = agent_set["metadata"].get("ownerReferences") or ()
    names = {reference["name"] for reference in references if reference["kind"] == AGENTCLUSTER.kind}
    return names | {agent_set["spec"]["cluster"]} if agent_set["spec"].get("cluster") else names
