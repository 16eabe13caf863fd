"""Puts a region's reconcilers together and runs them while this process leads the region.

Owns the wiring of one term of leadership: which change wakes which key. Invariant: everything a term made, the census
included, is made anew from the stores at its start and dropped at its end; nothing is carried from term to term.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from choregos.control.events import EventRecorder
from choregos.control.loop import Key, LoopSettings
from choregos.control.objects import NODES, SETS, FencedObjects
from choregos.control.owners import Owners
from choregos.control.region.agents import FencedAgents
from choregos.control.region.binding import HOMELESS, BindingReconciler
from choregos.control.region.census import Census
from choregos.control.region.garbage import RegionGarbage
from choregos.control.region.history import History
from choregos.control.region.members import SetMembers
from choregos.control.region.needs import NeedsBook
from choregos.control.region.nodes import SCAN, NodeReconciler
from choregos.control.region.placing import Placer
from choregos.control.region.roster import Roster, changes_placement
from choregos.control.region.sets import SetReconciler
from choregos.control.term import Leader, Term
from choregos.foundation.clock import Clock
from choregos.foundation.ids import IdSource
from choregos.resources.kind import ReadOnlyObject
from choregos.scheduling import revisions
from choregos.store.directory import Directory
from choregos.store.instance import InstanceChange
from choregos.store.instances import InstanceWriter
from choregos.store.leases.election import LeaderElection
from choregos.store.leases.heartbeat import LeaseObserver
from choregos.store.port import Fence, RecordLog, Write
from choregos.store.resources import Change, ResourceStore
from choregos.store.watch import ChangeType
from choregos.wire import subjects

SET_WORKERS = 32
"""Sets in work at once: their writes go to one log one after another, but a large set must not hold up small ones."""


@dataclass(frozen=True, slots=True)
class RegionStores:
    """What a region's controllers read and write.

    Attributes:
        log: of the region; `directory` and `writer` are this log's.
        resources_log: of the fleet; `resources` is this log's.
    """

    resources: ResourceStore
    events: EventRecorder
    log: RecordLog
    directory: Directory
    writer: InstanceWriter
    resources_log: RecordLog


class RegionController(Leader):
    """Leads a region whenever it is elected."""

    def __init__(self, stores: RegionStores, election: LeaderElection, clock: Clock, ids: IdSource) -> None:
        super().__init__(f"region-{stores.directory.region}", election)
        self._stores = stores
        self._clock = clock
        self._ids = ids

    async def _begin(self, fence: Fence) -> RegionTerm:
        objects_fence = await announce(self._stores.resources_log, self._stores.directory.region)
        return RegionTerm(self._stores, RegionFences(objects_fence, fence), self._clock, self._ids)


@dataclass(frozen=True, slots=True)
class RegionFences:
    """A fence protects the log its epoch is in, and a region's leader writes to two.

    Attributes:
        objects: for the fleet's log, where sets and nodes are.
        agents: for the region's own log: the one the election gave.
    """

    objects: Fence
    agents: Fence


async def announce(resources_log: RecordLog, region: str) -> Fence:
    """Writes an epoch of the region's leader into the fleet's log, which ends what former leaders may write there.

    A leader that was deposed just before it announced itself ends its successor's fence by this; the successor then
    resigns and is elected anew, while the region's log goes on refusing the deposed one.
    """
    name = f"region-{region}"
    epoch_subject = subjects.epoch_subject(subjects.FLEET_SCOPE, name)
    epoch = await resources_log.append(Write(epoch_subject, b""))
    return Fence(subjects.fence_subject(subjects.FLEET_SCOPE, name), epoch_subject, epoch)


class RegionTerm(Term):
    """One term of a region's leader."""

    def __init__(self, stores: RegionStores, fences: RegionFences, clock: Clock, ids: IdSource) -> None:
        super().__init__(clock)
        self._stores = stores
        directory = stores.directory
        self._leases = LeaseObserver(stores.log, directory.region, clock)
        objects = FencedObjects(stores.resources, fences.objects, clock, ids)
        needs = NeedsBook(lambda namespace, digest: _spec_of(directory, namespace, digest))
        self._census = Census(needs.demand, self._wake_set)
        agents = FencedAgents(directory, stores.writer, fences.agents, self._census, clock)
        roster = Roster(objects, self._census, directory.region, clock)
        placer = Placer(self._census, roster, needs)
        members = SetMembers(agents, placer, clock, ids)
        self._owners = Owners(objects, [revisions.RESOURCE])
        history = History(objects, self._owners)
        events = stores.events
        self._sets = self._controller(
            SetReconciler(objects, agents, members, history, events=events, clock=clock),
            LoopSettings(workers=SET_WORKERS),
        )
        self._bindings = self._controller(BindingReconciler(agents, placer, roster, events, clock))
        self._nodes = self._controller(NodeReconciler(objects, roster, self._leases, events, clock), SCAN)
        self._garbage = self._controller(RegionGarbage(objects, agents, history))

    async def _open(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._leases)
        for instance in self._stores.directory.list():
            self._census.observe(instance)
        self._owners.load()
        stack.callback(self._stores.directory.on_change(self._agents_changed))
        stack.callback(self._stores.resources.on_change(self._objects_changed))
        for controller in (self._nodes, self._sets, self._bindings, self._garbage):
            await stack.enter_async_context(controller)

    def _wake_bindings(self) -> None:
        self._bindings.wake(HOMELESS)

    def _wake_set(self, set_key: Key) -> None:
        self._sets.wake(set_key)

    def _agents_changed(self, changes: Sequence[InstanceChange]) -> None:
        look = False  # whether somebody who needs a node may find one now, or has only now become visible
        for change in changes:
            instance = change.instance
            if change.type is ChangeType.DELETED:
                self._census.vanish(instance.namespace, instance.name)
                look = True
            else:
                self._census.observe(instance)
                look = look or (change.type is ChangeType.ADDED and not instance.record.node)
        if self._census.refused or (look and self._census.homeless):
            self._wake_bindings()

    def _objects_changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._owners.observe(change)
        for change in changes:
            metadata = change.object["metadata"]
            if change.resource == SETS:
                self._sets.wake(Key(metadata["namespace"], metadata["name"]))
            elif change.resource == revisions.RESOURCE:
                for owner in _owning_sets(change.object):
                    self._sets.wake(owner)
            elif change.resource == NODES:
                self._nodes.wake(Key("", metadata["name"]))
                if changes_placement(change.previous, change.object):
                    self._wake_bindings()


def _owning_sets(obj: ReadOnlyObject) -> Iterator[Key]:
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference["kind"] == "AgentSet":
            yield Key(obj["metadata"]["namespace"], reference["name"])


def _spec_of(directory: Directory, namespace: str, digest: str) -> Mapping[str, Any]:
    template = directory.templates.get((namespace, digest))
    return {} if template is None else template.spec
