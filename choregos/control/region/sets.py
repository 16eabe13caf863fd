"""AgentSet → agents: as many as declared, of the template declared, replaced step by step, drained before they go.

Invariants: a set has its finalizer before its first agent and keeps it until its last agent's record is gone; agents
of a set that no longer exists end at once; how far a replacement may go at once is `scheduling.rollout`'s decision.
The work per reconciliation grows with what is to be done, not with the size of the set: counts come from the census.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from choregos.control.events import EventRecorder
from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import SETS, FencedObjects
from choregos.control.pace import Pace
from choregos.control.region.agents import FencedAgents
from choregos.control.region.census import Tally
from choregos.control.region.history import History
from choregos.control.region.members import SetMembers
from choregos.control.region.needs import parse_needs
from choregos.control.region.set_status import Failure, SetFigures, progress_deadline_ms, set_status
from choregos.foundation.clock import Clock
from choregos.resources import meta
from choregos.resources.events import NORMAL, WARNING
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.percent import rollout_bounds
from choregos.resources.templates import digest as template_digest
from choregos.resources.templates import instance_template
from choregos.scheduling.restraint import Restraint, while_draining, while_paused
from choregos.scheduling.rollout import Step, plan_paused, plan_step

AT_ONCE = Result(0.0)
SOON = Result(0.2)
"""For a step that changed nothing: what it was planned for is not there yet, or no more."""


class SetReconciler:
    """Drives one AgentSet per key, if it is declared for this region or has left agents here."""

    name = "agentsets"

    def __init__(
        self,
        objects: FencedObjects,
        agents: FencedAgents,
        members: SetMembers,
        history: History,
        *,
        events: EventRecorder,
        clock: Clock,
    ) -> None:
        self._objects = objects
        self._agents = agents
        self._members = members
        self._history = history
        self._events = events
        self._clock = clock
        self._pace = Pace(clock)

    def keys(self) -> Iterable[Key]:
        declared = (
            Key(agent_set["metadata"]["namespace"], agent_set["metadata"]["name"])
            for agent_set in self._objects.list(SETS)
            if self._is_here(agent_set)
        )
        return list(dict.fromkeys(chain(declared, self._agents.census.set_keys())))

    async def reconcile(self, key: Key) -> Result:
        await self._agents.settle(key)
        agent_set = self._objects.find(SETS, key.namespace, key.name)
        here = agent_set is not None and self._is_here(agent_set)
        for tally in list(self._agents.census.tallies(key).values()):
            if agent_set is None or not here or tally.uid != agent_set["metadata"]["uid"]:
                await self._members.end(tally)
                await self._members.remove_finished(tally)
        if agent_set is None or not here:
            self._pace.forget(key)
            return DONE
        if meta.is_deleting(agent_set):
            return await self._delete(key, agent_set)
        if not meta.has_finalizer(agent_set, meta.AGENTS_FINALIZER):
            held = meta.with_finalizer(agent_set, meta.AGENTS_FINALIZER)
            agent_set = await self._objects.update(SETS, agent_set, held)
        return await self._match(key, agent_set)

    def _is_here(self, agent_set: Object) -> bool:
        return bool(agent_set["spec"].get("region", meta.LOCAL_REGION) == self._agents.directory.region)

    def _tally(self, key: Key, agent_set: Object) -> Tally:
        return self._agents.census.tally(key, agent_set["metadata"]["uid"])

    async def _delete(self, key: Key, agent_set: Object) -> Result:
        tally = self._tally(key, agent_set)
        if tally.states:
            drained = await self._members.drain(tally)
            self._tell(agent_set, "SuccessfulDelete", "deleted", drained)
        await self._members.delete_requested(self._tally(key, agent_set))
        await self._members.remove_finished(self._tally(key, agent_set))
        if self._tally(key, agent_set).names:
            return await self._report(key, agent_set, (agent_set.get("status") or {}).get("templateDigest", ""))
        if meta.has_finalizer(agent_set, meta.AGENTS_FINALIZER):
            await self._objects.release(SETS, agent_set, meta.AGENTS_FINALIZER)
        self._pace.forget(key)
        return DONE

    async def _match(self, key: Key, agent_set: Object) -> Result:
        await self._history.record(agent_set, self._members.templates(self._tally(key, agent_set)))
        template = self._history.current(agent_set)
        digest = await self._members.declare(key.namespace, template)
        await self._members.remove_finished(self._tally(key, agent_set))
        await self._members.delete_requested(self._tally(key, agent_set))
        step, restraint = _plan(agent_set["spec"], template, digest, self._tally(key, agent_set))
        deleted = made = 0
        if step.deletes:
            deleted = await self._members.delete(agent_set, digest, step)
            self._tell(agent_set, "SuccessfulDelete", "deleted", deleted)
        if step.create:
            made, message = await self._members.create(agent_set, digest, step.create)
            self._tell(agent_set, "SuccessfulCreate", "created", made)
            if message:
                self._events.record(agent_set, WARNING, "FailedScheduling", message)
        declared = template_digest(instance_template(agent_set["spec"]))
        reported = await self._report(key, agent_set, declared, restraint)
        if step == Step():
            return reported
        return AT_ONCE if deleted or made else SOON

    async def _report(self, key: Key, agent_set: Object, digest: str, restraint: Restraint | None = None) -> Result:
        figures = self._figures(self._tally(key, agent_set), digest, restraint)
        now_ms = self._clock.wall_ms()
        status = set_status(agent_set, figures, now_ms)
        if status != agent_set.get("status"):
            if (wait_s := self._pace.wait_s(key)) > 0:
                return Result(wait_s)
            await self._objects.write_status(SETS, agent_set, status)
            self._pace.written(key)
            self._events.record_verdict(agent_set, status)
        deadline_ms = progress_deadline_ms(agent_set, status)
        return DONE if deadline_ms is None or deadline_ms <= now_ms else Result((deadline_ms - now_ms) / 1000)

    def _figures(self, tally: Tally, digest: str, restraint: Restraint | None) -> SetFigures:
        why_homeless = ""
        if (
            tally.homeless
            and (one := self._agents.directory.find(tally.key.namespace, min(tally.homeless))) is not None
        ):
            why_homeless = one.record.message
        by_frequency = sorted(tally.failing.items(), key=lambda item: (-len(item[1]), item[0]))
        failures = [self._failure(tally.key.namespace, reason, names) for reason, names in by_frequency]
        return SetFigures(
            digest,
            tally.counts(digest),
            self._agents.census.allocated_to(tally),
            leaving=tally.leaving,
            homeless=len(tally.homeless),
            why_homeless=why_homeless,
            failures=failures,
            restraint=restraint,
        )

    def _failure(self, namespace: str, reason: str, names: Collection[str]) -> Failure:
        name = min(names)
        one = self._agents.directory.find(namespace, name)
        if one is None or one.status is None:  # the census may be ahead of the directory
            return Failure(reason, len(names), name, "", "")
        return Failure(reason, len(names), name, one.record.node, one.status.message)

    def _tell(self, agent_set: Object, reason: str, done: str, number: int) -> None:
        if number:
            self._events.record(agent_set, NORMAL, reason, f"{done} {number} agent{'s' if number != 1 else ''}")


def _plan(
    spec: ReadOnlyObject, template: Mapping[str, Any], digest: str, tally: Tally
) -> tuple[Step, Restraint | None]:
    """The next step, and why it makes fewer agents than are missing.

    Args:
        template: what agents are made from now; `digest` is its.
    """
    desired, counts = spec["replicas"], tally.counts(digest)
    bounds = rollout_bounds(spec.get("strategy") or {}, desired)
    if spec.get("paused"):
        step = plan_paused(desired, bounds, counts)
        create, paused = while_paused(step.create, parse_needs(template), parse_needs(spec["template"]))
    else:
        step = plan_step(desired, bounds, counts)
        create, paused = step.create, None
    create, draining = while_draining(create, desired, bounds, counts, tally.leaving)
    return replace(step, create=create), paused or draining
