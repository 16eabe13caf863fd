"""Whose request is next: one client in a loop must not keep the others waiting.

A request takes a seat while it is worked on. When all are taken, requests wait in a line for each flow, and a seat that
becomes free goes to the flow that holds the fewest; among those to the one that was given one longest ago. So flows
that ask for more than there is get equal shares (max-min fairness), and one that asks for little hardly waits. The idea
is that of Kubernetes' API Priority and Fairness (KEP-1040), with one level and flows told apart exactly.

Invariants: seats taken never exceed the limit, except by a single request that is wider than it; a flow's own requests
are seated in the order of their arrival; whoever stops waiting leaves no trace. What stays open, such as a watch, takes
no seat once it has begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from choregos.api.rules.status import Refusal

SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class FairnessLimits:
    """
    Attributes:
        seats: requests worked on at a time. Work is done by one processor; more of them wait for the store together.
        waiting_per_flow: of one flow in line; more are refused.
        wait_s: how long one stands in line before it is refused.
    """

    seats: int = 64
    waiting_per_flow: int = 512
    wait_s: float = 15.0


@dataclass(slots=True, eq=False)
class _Request:
    width: int
    seated: asyncio.Future[None]


@dataclass(slots=True)
class _Flow:
    taken: int = 0
    served: int = 0  # when it was last given a seat, as a number that rises
    line: deque[_Request] = field(default_factory=deque)


def flow_of(user: str) -> str:
    """Who is to be treated fairly: the service accounts of a namespace together, every other user alone."""
    if user.startswith(SERVICE_ACCOUNT):
        return user.removeprefix(SERVICE_ACCOUNT).partition(":")[0] + "/"
    return user


class Fairness:
    """The seats of one server."""

    def __init__(self, limits: FairnessLimits) -> None:
        self._limits = limits
        self._free = limits.seats
        self._served = 0
        self._flows: dict[str, _Flow] = {}

    @asynccontextmanager
    async def seat(self, flow: str, width: int = 1) -> AsyncIterator[None]:
        """Waits for its turn, and holds a seat for as long as the context lasts.

        Args:
            flow: see `flow_of`.
            width: seats it takes, for work that is as much as that of several; more than there are count as all.

        Raises:
            Refusal: 429, too many of this flow wait already, or it has waited too long.
        """
        width = min(width, self._limits.seats)
        known = self._flows.setdefault(flow, _Flow())
        if self._free >= width and not self._anybody_waits():
            self._take(known, width)
        else:
            await self._stand_in_line(flow, known, width)
        try:
            yield
        finally:
            self._free += width
            known.taken -= width
            self._forget(flow, known)
            self._seat_next()

    def _anybody_waits(self) -> bool:
        return any(flow.line for flow in self._flows.values())

    def _take(self, flow: _Flow, width: int) -> None:
        self._free -= width
        flow.taken += width
        self._served += 1
        flow.served = self._served

    async def _stand_in_line(self, name: str, flow: _Flow, width: int) -> None:
        if len(flow.line) >= self._limits.waiting_per_flow:
            raise _refused(f"{self._limits.waiting_per_flow} requests of {name} wait already")
        request = _Request(width, asyncio.get_running_loop().create_future())
        flow.line.append(request)
        try:
            async with asyncio.timeout(self._limits.wait_s):
                await request.seated
        except BaseException as error:
            if request.seated.done() and not request.seated.cancelled():
                # It was seated in the very moment in which it gave up.
                self._free += width
                flow.taken -= width
            elif request in flow.line:
                flow.line.remove(request)
            self._forget(name, flow)
            self._seat_next()
            if isinstance(error, TimeoutError):
                raise _refused(f"the server was busy for {self._limits.wait_s:.0f} s") from error
            raise

    def _seat_next(self) -> None:
        """Gives free seats away, until there are none or the next request is wider than what is left."""
        while waiting := [flow for flow in self._flows.values() if flow.line]:
            flow = min(waiting, key=lambda flow: (flow.taken, flow.served))
            request = flow.line[0]
            if request.seated.cancelled():
                flow.line.popleft()
                continue
            if request.width > self._free:
                return
            flow.line.popleft()
            self._take(flow, request.width)
            request.seated.set_result(None)

    def _forget(self, name: str, flow: _Flow) -> None:
        # Of two that give up together the second may come when the name is another's flow already.
        if not flow.taken and not flow.line and self._flows.get(name) is flow:
            del self._flows[name]


def _refused(why: str) -> Refusal:
    message = f"too many requests, please try again later: {why}"
    return Refusal(429, "TooManyRequests", message, details={"retryAfterSeconds": 1})
