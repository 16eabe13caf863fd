"""Calls agents: finds one, reaches it, waits for its answer, and repeats the call only when that is safe.

Invariants: a call is repeated at most once, and only if it cannot have begun (`Moved`, nobody listens, `Overloaded`);
it never outlasts its own time nor that of the call it is made from; a cancelled call tells its agent. Where agents
are is asked from a resolver and remembered briefly; what was seen of them is counted for `take_stats`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from choregos.foundation.errors import (
    CALL_ERRORS,
    CallError,
    DeadlineExceeded,
    HandlerFailed,
    HostLost,
    NoAgent,
    Overloaded,
    Unavailable,
)
from choregos.mesh.route_cache import Resolve, RouteCache
from choregos.mesh.routes import Answer, Target, choose
from choregos.mesh.tallies import Tallies
from choregos.messaging.calls import Find
from choregos.messaging.invocation import Callee, Invoker, inherited_deadline
from choregos.messaging.transport import CallTransport
from choregos.messaging.values import decode, encode_arguments
from choregos.wire.calls import MOVED, Cancel, Failure, Outbound, Request
from choregos.wire.subjects import call_subject, called_host
from choregos.wire.worker import CallStats, Candidate

TIMEOUT_S = 30.0
"""Time of a call that names none."""

ATTEMPTS_MAX = 2

_NO_ARGUMENTS: Mapping[str, Any] = {}
_COUNTS_AS_FAILURE = (HandlerFailed, DeadlineExceeded, HostLost, Unavailable, Overloaded)

_encode = msgspec.msgpack.Encoder().encode
_decode_answer = msgspec.msgpack.Decoder(Outbound).decode


@dataclass(frozen=True, slots=True)
class LocalAgents:
    """The agents of this process: those of one namespace are called without the bus."""

    namespace: str
    find: Find
    invoker: Invoker


class _Order(NamedTuple):
    """One call, whatever agent it will go to."""

    target: Target
    method: str
    arguments: bytes
    ends_at: float
    caller: str


class _Moved(Unavailable):
    """The agent is not where it was thought to be."""


class Caller:
    """Calls from one process; safe for any number of tasks. Must be made inside the event loop, and closed.

    Args:
        resolve: where the agents of a target are; see `choregos.mesh.resolver`.
        roll: a number in [0, 1): `random.random`.
        local: None where there are no agents, as in the API server.
    """

    def __init__(
        self,
        transport: CallTransport,
        resolve: Resolve,
        *,
        region: str,
        roll: Callable[[], float],
        local: LocalAgents | None = None,
    ) -> None:
        self._transport = transport
        self._region = region
        self._roll = roll
        self._local = local
        self._now = asyncio.get_running_loop().time
        self._routes = RouteCache(resolve)
        self._tallies = Tallies()

    async def ask(
        self,
        target: Target,
        method: str = "",
        arguments: Mapping[str, Any] = _NO_ARGUMENTS,
        *,
        timeout_s: float | None = None,
        caller: str = "",
    ) -> Answer:
        """What the method returned, and who answered.

        Args:
            method: empty for the only method of the target's capability.
            timeout_s: for everything, finding the agent included; None for 30 s. Within a call that is being served
                the time that this has left is the limit.
            caller: who asks, `namespace/name` or a user.

        Raises:
            NoAgent, Unavailable, Overloaded, MethodNotFound, InvalidArguments, PayloadTooLarge: it did not begin.
            HandlerFailed, CallCancelled: it began and did not return.
            HostLost, DeadlineExceeded: it may have begun.
        """
        order = _Order(target, method, encode_arguments(arguments), self._ends_at(timeout_s), caller)
        avoid: Candidate | None = None
        refusal: CallError | None = None
        for _ in range(ATTEMPTS_MAX):
            candidate = self._resident(target) if avoid is None else None
            if candidate is None:
                candidate = await self._candidate(order, avoid, refusal)
            try:
                return Answer(decode(await self._attempt(order, candidate)), candidate.name)
            except Overloaded as error:
                avoid, refusal = candidate, error
            except Unavailable as error:
                avoid, refusal = candidate, error
                self._routes.forget(target)
        assert refusal is not None
        raise refusal

    async def call(
        self,
        target: Target,
        method: str = "",
        arguments: Mapping[str, Any] = _NO_ARGUMENTS,
        *,
        timeout_s: float | None = None,
        caller: str = "",
    ) -> Any:
        """As `ask`, for those who want the result alone."""
        return (await self.ask(target, method, arguments, timeout_s=timeout_s, caller=caller)).result

    def take_stats(self) -> tuple[CallStats, ...]:
        """What was seen of every agent called since the last time; for `Statistics.observe`."""
        return self._tallies.take()

    def forget_hosts(self, hosts: Collection[str]) -> None:
        """These hosts are gone: no call goes there any more, and those under way end with `HostLost`."""
        self._routes.forget_hosts(hosts)
        self._transport.abandon(lambda subject: called_host(subject) in hosts)

    async def close(self) -> None:
        await self._routes.close()

    def _ends_at(self, timeout_s: float | None) -> float:
        ends_at = self._now() + (TIMEOUT_S if timeout_s is None else timeout_s)
        inherited = inherited_deadline()
        return ends_at if inherited is None else min(ends_at, inherited)

    def _resident(self, target: Target) -> Candidate | None:
        """The agent itself if it is wanted by name alone and lives here: that needs no resolution."""
        if target.agent and not target.selector and self._local and self._local.namespace == target.namespace:
            callee = self._local.find(target.agent)
            if callee is not None:
                return Candidate(target.agent, callee.uid, "")
        return None

    async def _candidate(self, order: _Order, avoid: Candidate | None, refusal: CallError | None) -> Candidate:
        target = order.target
        candidates: tuple[Candidate, ...] = ()
        if refusal is None or isinstance(refusal, Overloaded):
            candidates = self._routes.remembered(target)
        if not candidates:
            try:
                resolved = await self._routes.resolve(target, order.ends_at - self._now())
            except TimeoutError as error:
                raise DeadlineExceeded(f"{target} was not found within the call's time") from error
            candidates = resolved.candidates
            if not candidates:
                raise NoAgent(resolved.message or f"nothing is ready for {target}") from refusal
        chosen = choose(candidates, self._tallies.in_flight, (self._roll(), self._roll()), avoid.uid if avoid else "")
        if chosen is None:
            # There is but the one that has just refused. Whoever moved may be called at its new place.
            if isinstance(refusal, Overloaded):
                raise refusal
            chosen = candidates[0]
        return chosen

    async def _attempt(self, order: _Order, candidate: Candidate) -> bytes | msgspec.Raw:
        """Calls one agent once; the encoded result."""
        uid, began_at = candidate.uid, self._now()
        timeout_s = order.ends_at - began_at
        if timeout_s <= 0.0:
            raise DeadlineExceeded(f"no time was left to call {order.target}")
        self._tallies.begin(uid)
        try:
            callee = self._callee(order.target, candidate)
            if callee is not None and self._local is not None:
                value: bytes | msgspec.Raw = await self._local.invoker.invoke(
                    callee, order.method, order.target.capability, order.arguments, timeout_s
                )
                load = callee.in_flight
            else:
                value, load = await self._ask(order, candidate, timeout_s)
        except CallError as error:
            if isinstance(error, _COUNTS_AS_FAILURE):
                self._tallies.count(uid, self._now() - began_at, failed=True)
            raise
        finally:
            self._tallies.end(uid)
        self._tallies.count(uid, self._now() - began_at, failed=False, load=load)
        return value

    def _callee(self, target: Target, candidate: Candidate) -> Callee | None:
        """The candidate, if it is an agent of this process."""
        local = self._local
        if local is None or local.namespace != target.namespace:
            return None
        callee = local.find(candidate.name)
        return callee if callee is not None and callee.uid == candidate.uid else None

    async def _ask(self, order: _Order, candidate: Candidate, timeout_s: float) -> tuple[msgspec.Raw, int]:
        target = order.target
        request = Request(
            agent=candidate.name,
            method=order.method,
            timeout_ms=max(1, int(timeout_s * 1000)),
            arguments=msgspec.Raw(order.arguments),
            caller=order.caller,
            capability=target.capability,
            uid=candidate.uid,
        )
        subject = call_subject(self._region, target.namespace, candidate.host)
        try:
            payload = await self._transport.request(subject, _encode(request), timeout_s, _farewell)
        except CallError as error:
            error.agent = f"{target.namespace}/{candidate.name}"
            raise
        answer = _decode_answer(payload)
        if isinstance(answer, Failure):
            raise _error_of(answer, f"{target.namespace}/{candidate.name}")
        return answer.value, answer.in_flight


def _farewell(reply: str) -> bytes:
    return _encode(Cancel(reply))


def _error_of(failure: Failure, agent: str) -> CallError:
    if failure.code == MOVED:
        return _Moved(f"{agent} is not on the host where it was thought to be", agent=agent)
    class_ = CALL_ERRORS.get(failure.code, CallError)
    error = class_(failure.message, agent=agent, remote_type=failure.type, remote_traceback=failure.traceback)
    if failure.traceback:
        error.add_note(f"At {agent}:\n{failure.traceback}")
    return error
