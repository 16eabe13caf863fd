"""Puts the fleet's reconcilers together and runs them while this process leads the fleet.

Owns the wiring of one term of leadership: which change wakes which key. Invariant: nothing is carried from one term
to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from choregos.control.events import EventRecorder
from choregos.control.fleet.clusters import CLUSTERS, SETS, ClusterReconciler
from choregos.control.fleet.garbage import GarbageReconciler, garbage_key
from choregos.control.fleet.namespaces import NAMESPACES, NamespaceReconciler
from choregos.control.loop import Controller, Key, LoopSettings
from choregos.control.objects import FencedObjects
from choregos.foundation.clock import Clock
from choregos.foundation.ids import IdSource
from choregos.foundation.tasks import Tasks
from choregos.resources import meta
from choregos.resources.registry import KINDS
from choregos.store.lease import LeaderElection
from choregos.store.port import Fence
from choregos.store.resources import Change, ResourceStore
from choregos.store.watch import ChangeType

LOOP = LoopSettings(workers=2)


@dataclass(frozen=True, slots=True)
class FleetStores:
    """What the fleet's controllers read and write."""

    resources: ResourceStore
    events: EventRecorder


class FleetController:
    """Leads the fleet whenever it is elected; an async context manager.

    Leaving it ends the term, if there is one, and gives the lease back.
    """

    def __init__(self, stores: FleetStores, election: LeaderElection, clock: Clock, ids: IdSource) -> None:
        self._stores = stores
        self._election = election
        self._clock = clock
        self._ids = ids
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._tasks.start(self._election.run(self._lead), "fleet")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def _lead(self, fence: Fence) -> None:
        """One term; cancelled when it ends."""
        async with FleetTerm(self._stores, fence, self._clock, self._ids) as term:
            await term.deposed.wait()
        self._election.resign()


class FleetTerm:
    """The reconcilers of one term of leadership; an async context manager: inside it they run.

    Attributes:
        deposed: set when a write was refused because another leads.
    """

    def __init__(self, stores: FleetStores, fence: Fence, clock: Clock, ids: IdSource) -> None:
        self.deposed = asyncio.Event()
        self._resources = stores.resources
        self._stack = AsyncExitStack()
        objects = FencedObjects(stores.resources, fence, clock, ids)
        kinds = [kind for kind in KINDS if kind.plane == "declarative"]
        self._judge = GarbageReconciler(objects, kinds)
        stop = self.deposed.set
        self._clusters = Controller(ClusterReconciler(objects, stores.events, clock), clock, LOOP, on_deposed=stop)
        self._garbage = Controller(self._judge, clock, LOOP, on_deposed=stop)
        self._namespaces = Controller(NamespaceReconciler(objects, kinds), clock, LOOP, on_deposed=stop)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self._resources.on_change(self._changed))
            for controller in (self._clusters, self._garbage, self._namespaces):
                await stack.enter_async_context(controller)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            metadata = change.object["metadata"]
            if change.resource == CLUSTERS:
                self._clusters.wake(Key(metadata["namespace"], metadata["name"]))
            elif change.resource == SETS and change.object["spec"].get("cluster"):
                self._clusters.wake(Key(metadata["namespace"], change.object["spec"]["cluster"]))
            elif change.resource == NAMESPACES:
                self._namespaces.wake(Key("", metadata["name"]))
            for key in self._garbage_of(change):
                self._garbage.wake(key)

    def _garbage_of(self, change: Change) -> Iterator[Key]:
        if change.type is ChangeType.DELETED:
            for resource, dependent in self._judge.dependents(change.object):
                yield garbage_key(resource, dependent)
            yield from self._judge.owners(change.object)  # one of them may wait for its dependents to go
        elif change.object["metadata"].get("ownerReferences") or meta.is_deleting(change.object):
            yield garbage_key(change.resource, change.object)
