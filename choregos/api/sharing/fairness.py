"""Whose request is next: one client in a loop must not keep the others waiting.

A request takes a seat while it is worked on. When all are taken, requests wait in a line for each flow, and a seat that
becomes free goes to the flow that holds the fewest; among those to the one that was given one longest ago. So flows
that ask for more than there is get equal shares (max-min fairness), and one that asks for little hardly waits. The idea
is that of Kubernetes' API Priority and Fairness (KEP-1040), with one level and flows told apart exactly.

Invariants: seats taken never exceed the limit; one flow never holds more than three quarters of them, nor one request
more than a quarter, so that somebody who holds none is seated at once beside any single flow; a flow's own requests are
seated in the order of their arrival; whoever stops waiting leaves no trace. What stays open, such as a watch, holds no
seat once it has shown the present state, nor while it waits for its client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from choregos.api.rules.status import too_many_requests
from choregos.foundation.timeout import timeout

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


class Seat:
    """Of one request; given back when its context ends, unless it was kept.

    Args:
        wait: for a seat; its result gives it back.
    """

    def __init__(self, wait: Callable[[], Awaitable[Callable[[], None]]]) -> None:
        self._wait = wait
        self._give_back: Callable[[], None] | None = None
        self.kept = False

    @property
    def held(self) -> bool:
        return self._give_back is not None

    async def take(self) -> None:
        """Waits for its turn, unless it is held.

        Raises:
            Refusal: 429, too many of the flow wait already, or it has waited too long.
        """
        if self._give_back is None:
            self._give_back = await self._wait()

    def keep(self) -> None:
        """Holds it beyond its context, until `leave` is called."""
        self.kept = True

    def leave(self) -> None:
        """Gives it back, if it is held; it may be taken again."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Fairness:
    """The seats of one server."""

    def __init__(self, limits: FairnessLimits) -> None:
        self._limits = limits
        self._free = limits.seats
        self._flow_max = max(1, limits.seats * 3 // 4)
        self._width_max = max(1, limits.seats // 4)
        self._served = 0
        self._flows: dict[str, _Flow] = {}

    @asynccontextmanager
    async def seat(self, flow: str, width: int = 1) -> AsyncIterator[Seat]:
        """Waits for its turn, and holds a seat for as long as the context lasts, or as it is kept.

        Args:
            flow: see `flow_of`.
            width: seats it takes, for work that is as much as that of several; a quarter of all at most.

        Raises:
            Refusal: 429, too many of this flow wait already, or it has waited too long.
        """
        seat = Seat(partial(self._seated, flow, min(width, self._width_max)))
        await seat.take()
        try:
            yield seat
        finally:
            if not seat.kept:
                seat.leave()

    async def _seated(self, flow: str, width: int) -> Callable[[], None]:
        known = self._flows.setdefault(flow, _Flow())
        request = _Request(width, asyncio.get_running_loop().create_future())
        known.line.append(request)
        self._seat_next()
        if not request.seated.done():
            await self._stand_in_line(flow, known, request)
        return partial(self._give_back, flow, known, width)

    def _give_back(self, name: str, flow: _Flow, width: int) -> None:
        self._free += width
        flow.taken -= width
        self._forget(name, flow)
        self._seat_next()

    def _take(self, flow: _Flow, width: int) -> None:
        self._free -= width
        flow.taken += width
        self._served += 1
        flow.served = self._served

    async def _stand_in_line(self, name: str, flow: _Flow, request: _Request) -> None:
        if len(flow.line) > self._limits.waiting_per_flow:
            flow.line.pop()
            self._forget(name, flow)
            raise too_many_requests(f"{self._limits.waiting_per_flow} requests of {name} wait already")
        try:
            async with timeout(self._limits.wait_s):
                await request.seated
        except BaseException as error:
            if request.seated.done() and not request.seated.cancelled():
                # It was seated in the very moment in which it gave up.
                self._free += request.width
                flow.taken -= request.width
            elif request in flow.line:
                flow.line.remove(request)
            self._forget(name, flow)
            self._seat_next()
            if isinstance(error, TimeoutError):
                raise too_many_requests(f"the server was busy for {self._limits.wait_s:.0f} s") from error
            raise

    def _seat_next(self) -> None:
        """Gives free seats away, until there are none or the next request is wider than what is left."""
        while waiting := [flow for flow in self._flows.values() if self._may_go_on(flow)]:
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

    def _may_go_on(self, flow: _Flow) -> bool:
        return bool(flow.line) and flow.taken + flow.line[0].width <= self._flow_max

    def _forget(self, name: str, flow: _Flow) -> None:
        # Of two that give up together the second may come when the name is another's flow already.
        if not flow.taken and not flow.line and self._flows.get(name) is flow:
            del self._flows[name]
