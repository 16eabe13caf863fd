"""Answers the calls that arrive for the agents of this process.

Each request runs in a task of its own, finds its agent by name, and is answered by exactly one frame: the result or a
failure with a code. Not answered is only what wants no reply, and, logged, what is no frame at all and a second request
with the reply subject of one that is under way: nobody could tell the answers apart. Who sends is not judged here: the
bus's permissions decide who may publish to a host's subject.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from choregos.foundation.errors import CallError, Overloaded
from choregos.foundation.tasks import Tasks, logged
from choregos.messaging.invocation import Callee, Invoker
from choregos.messaging.tracebacks import message_of
from choregos.messaging.transport import CallTransport, Closer
from choregos.wire.calls import MOVED, Cancel, Failure, Inbound, Request, Result

REQUESTS_MAX = 20_000
"""Requests under way in one process, of all its agents, wanted answer or not; more are refused with `Overloaded`."""

Find = Callable[[str], Callee | None]
"""The agent of this process and namespace that has this name and takes calls, or None."""

log = logging.getLogger(__name__)

_decode = msgspec.msgpack.Decoder(Inbound).decode
_encode = msgspec.msgpack.Encoder().encode


class CallServer:
    """Serves one call subject.

    Invariant: a request that was taken is answered, or the server was closed, or the bus was gone.
    """

    def __init__(self, transport: CallTransport, find: Find, invoker: Invoker) -> None:
        self._transport = transport
        self._find = find
        self._invoker = invoker
        self._tasks = Tasks(on_failure=logged)
        # By reply subject, so that a Cancel finds its request.
        self._answering: dict[str, asyncio.Task[None]] = {}
        self._closer: Closer | None = None

    async def serve(self, subject: str) -> None:
        """Takes requests from when this returns until `close`."""
        self._closer = await self._transport.serve(subject, self._arrived)

    async def close(self) -> None:
        """Takes no more; cancels what runs, which is answered as `Cancelled` as far as the bus still carries it."""
        if self._closer is not None:
            await self._closer()
            self._closer = None
        self._invoker.interrupt_all("the agent's host is shutting down")
        if self._answering:
            await asyncio.wait(tuple(self._answering.values()), timeout=1.0)
        await self._tasks.close()

    def _arrived(self, payload: bytes, reply: str) -> None:
        try:
            frame = _decode(payload)
        except msgspec.MsgspecError as error:
            log.warning("a message that is no call frame was ignored: %s", error)
            return
        if isinstance(frame, Cancel):
            running = self._answering.get(frame.reply)
            if running is not None:
                running.cancel()
            return
        if reply in self._answering:
            log.warning("a second request with the reply subject of one under way was ignored")
            return
        if len(self._tasks) >= REQUESTS_MAX:
            refusal = Overloaded(f"this host answers {REQUESTS_MAX} calls already")
            self._tasks.start(self._reply(reply, _encode(_failure(refusal, 0))), "refusal", eager=True)
            return
        task = self._tasks.start(self._answer(frame, reply), "call", eager=True)
        if reply and not task.done():
            self._answering[reply] = task

    async def _answer(self, request: Request, reply: str) -> None:
        try:
            await self._reply(reply, await self._outcome(request))
        finally:
            self._answering.pop(reply, None)

    async def _outcome(self, request: Request) -> bytes:
        """The frame that answers the request."""
        started = self._invoker.deadlines.now()
        callee = self._find(request.agent)
        try:
            if callee is None or (request.uid and callee.uid != request.uid):
                return _encode(Failure(MOVED, f"{request.agent} is not on this host"))
            value = await self._invoker.invoke(
                callee, request.method, request.capability, request.arguments, request.timeout_ms / 1000
            )
        except CallError as error:
            return _encode(_failure(error, callee.in_flight if callee else 0))
        service_us = int((self._invoker.deadlines.now() - started) * 1_000_000)
        return _encode(Result(msgspec.Raw(value), service_us, callee.in_flight + 1))

    async def _reply(self, reply: str, answer: bytes) -> None:
        if not reply:
            return
        try:
            await self._transport.publish(reply, answer)
        except CallError as error:
            # The caller will notice by its deadline; there is no way left to tell it.
            log.warning("an answer could not be sent: %s", error)


def _failure(error: CallError, in_flight: int) -> Failure:
    return Failure(error.code, message_of(error), error.remote_type, error.remote_traceback, in_flight)
