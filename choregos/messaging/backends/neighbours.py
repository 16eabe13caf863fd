"""Calls between the processes of one node: from socket to socket where there is one, else over the bus.

A `CallTransport` around another. What it serves is served on the bus and on a socket (`messaging.neighbourhood`); a
request goes to the subject's socket if there is one. `docs/decisions/0009-calls-of-a-node-are-direct.md` says why.

Invariants: a request is sent one way only, once; what cannot be reached by its socket is asked over the bus, which
knows whether anybody listens; connections are opened when they are first needed, one for each subject that is asked,
and closed after a minute or two without a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from choregos.foundation.errors import DeadlineExceeded
from choregos.foundation.ids import SystemIds
from choregos.foundation.tasks import Tasks, logged
from choregos.foundation.timeout import timeout
from choregos.messaging.backends.neighbour_links import AnsweringLink, AskingLink, Refusal
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.neighbourhood import Neighbourhood
from choregos.messaging.replies import no_answer
from choregos.messaging.transport import CallTransport, Closer, Farewell, OnMessage

OPENED_MAX = 256
ACCEPTED_MAX = 256
"""Connections of one process each way; beyond them calls go over the bus."""

OPEN_TIMEOUT_S = 1.0
"""A worker whose agents block it greets nobody."""

RETRY_S = 1.0
"""A socket that is not there or could not be reached is not looked for again for so long. A worker's is there before
anybody can know its subject."""

IDLE_S = 60.0

_LINK_PREFIX = "_NEIGHBOUR_"
_LINK_SUFFIX_LENGTH = 20
_LINK_LENGTH = len(_LINK_PREFIX) + _LINK_SUFFIX_LENGTH

log = logging.getLogger(__name__)


class NeighbourCallTransport:
    """Made by `open_neighbour_transport`."""

    def __init__(self, bus: CallTransport, neighbourhood: Neighbourhood, deadlines: Deadlines) -> None:
        self._bus = bus
        self._neighbourhood = neighbourhood
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._ids = SystemIds()
        self._tasks = Tasks(on_failure=logged)
        self._closed = False
        self._asking: dict[str, AskingLink] = {}  # by subject; those that take requests
        self._opened: set[AskingLink] = set()  # these, and those that still owe answers
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._unreachable: dict[str, float] = {}  # subject → when it may be tried again, by the loop's time
        self._answering: dict[str, AnsweringLink] = {}  # by token
        self._services: set[Callable[[], None]] = set()  # what ends each
        self._sweeping = self._loop.call_later(IDLE_S, self._sweep)

    def request(
        self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None = None
    ) -> Coroutine[Any, Any, bytes]:
        link = self._asking.get(subject)
        if link is not None:
            return link.replies.ask(subject, payload, timeout_s, farewell)
        if subject in self._opening or self._may_open(subject):
            return self._request_when_open(subject, payload, timeout_s, farewell)
        return self._bus.request(subject, payload, timeout_s, farewell)

    async def publish(self, subject: str, payload: bytes) -> None:
        if not subject.startswith(_LINK_PREFIX):
            await self._bus.publish(subject, payload)
            return
        link = self._answering.get(subject[:_LINK_LENGTH])
        if link is not None:  # else who asked is gone
            await link.outflow.wait_for_room()
            link.answer(int(subject[_LINK_LENGTH + 1 :]), payload)

    async def serve(self, subject: str, on_message: OnMessage) -> Closer:
        leave = await self._listen(subject, on_message)
        try:
            close_bus = await self._bus.serve(subject, on_message)
        except BaseException:
            leave()
            raise

        async def close() -> None:
            leave()
            await close_bus()

        return close

    def abandon(self, gone: Callable[[str], bool]) -> None:
        self._bus.abandon(gone)
        # Usually their ends are known already; but whoever inherited the socket from its process holds it open.
        for link in self._opened:
            link.replies.abandon(gone)

    async def close(self) -> None:
        self._closed = True
        self._sweeping.cancel()
        await self._tasks.close()
        for leave in tuple(self._services):
            leave()
        for link in tuple(self._opened):
            link.replies.close()
            link.close()
        for answering in tuple(self._answering.values()):
            answering.close()
        await self._bus.close()

    # Whom we ask

    def _may_open(self, subject: str) -> bool:
        now = self._loop.time()
        if self._unreachable.get(subject, 0.0) > now or self._closed:
            return False
        if len(self._opened) + len(self._opening) < OPENED_MAX and self._neighbourhood.has(subject):
            return True
        self._unreachable[subject] = now + RETRY_S
        return False

    async def _request_when_open(
        self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None
    ) -> bytes:
        ends_at = self._loop.time() + timeout_s
        opening = self._opening.get(subject)
        if opening is None:
            opening = self._opening[subject] = self._tasks.start(self._open(subject), "reach a neighbour")
        await asyncio.wait((opening,), timeout=timeout_s)
        left_s = ends_at - self._loop.time()
        if left_s <= 0.0:
            raise no_answer(timeout_s)
        link = self._asking.get(subject)
        ask = self._bus.request if link is None else link.replies.ask
        try:
            return await ask(subject, payload, left_s, farewell)
        except DeadlineExceeded as error:
            raise no_answer(timeout_s) from error

    async def _open(self, subject: str) -> None:
        link = AskingLink(subject, self._deadlines, self._useless)
        try:
            async with timeout(OPEN_TIMEOUT_S):
                await self._loop.create_unix_connection(lambda: link, self._neighbourhood.address(subject))
                await link.settled.wait()
        except (OSError, TimeoutError) as error:
            log.debug("a neighbour cannot be reached: %r", error)
        finally:
            del self._opening[subject]
            if link.takes_requests:
                self._opened.add(link)
                self._asking[subject] = link
            else:
                self._unreachable[subject] = self._loop.time() + RETRY_S
                link.abort()

    def _useless(self, link: AskingLink) -> None:
        if self._asking.get(link.subject) is link:
            del self._asking[link.subject]
        if link.ended:
            self._opened.discard(link)

    def _sweep(self) -> None:
        for link in tuple(self._opened):
            if link.idles():
                link.abort()
        now = self._loop.time()
        self._unreachable = {subject: at for subject, at in self._unreachable.items() if at > now}
        self._sweeping = self._loop.call_later(IDLE_S, self._sweep)

    # Who asks us

    async def _listen(self, subject: str, on_message: OnMessage) -> Callable[[], None]:
        """Takes connections for the subject; the result ends that, and says farewell to those who came."""
        links: set[AnsweringLink] = set()

        def accept() -> asyncio.Protocol:
            if len(self._answering) >= ACCEPTED_MAX:
                return Refusal()
            token = _LINK_PREFIX + self._ids.suffix(_LINK_SUFFIX_LENGTH)
            link = self._answering[token] = AnsweringLink(token, on_message, end)
            links.add(link)
            return link

        def end(link: AnsweringLink) -> None:
            del self._answering[link.token]
            links.discard(link)

        try:
            server = await self._loop.create_unix_server(accept, sock=self._neighbourhood.bind(subject))
        except OSError as error:
            log.warning("calls of neighbours will come over the bus: no socket can be had: %s", error)
            return lambda: None

        def leave() -> None:
            if leave in self._services:
                self._services.remove(leave)
                self._neighbourhood.remove(subject)
                server.close()
                for link in links:
                    link.leave()

        self._services.add(leave)
        return leave


@asynccontextmanager
async def open_neighbour_transport(
    bus: CallTransport, directory: Path, deadlines: Deadlines
) -> AsyncIterator[CallTransport]:
    """Around `bus`, with the sockets of this directory; without them if it cannot be used."""
    try:
        neighbourhood = Neighbourhood(directory)
    except OSError as error:
        log.warning("calls to neighbours go over the bus: %s", error)
        yield bus
        return
    transport = NeighbourCallTransport(bus, neighbourhood, deadlines)
    try:
        yield transport
    finally:
        await transport.close()
        neighbourhood.close()
