"""Agents' logs across the bus: the API server asks the node that runs the agent (`wire.node`).

Following is a chain of requests that each wait at the node for news, so a reader that goes away costs nothing, and a
node that restarts is simply asked again: its log then begins anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from choregos.agent.host import AgentHost
from choregos.api.context import LogChoice, LogLine
from choregos.foundation.errors import CallError, NotFound, Temporary
from choregos.foundation.tasks import Tasks, logged
from choregos.messaging.transport import CallTransport, Closer
from choregos.store.instance import Instance
from choregos.wire.node import LOGS, LogReply, LogRequest, node_subject

ANSWER_TIMEOUT_S = 5.0
WAIT_S = 10.0
WAITING_REQUESTS_MAX = 256

_reply_decoder = msgspec.msgpack.Decoder(LogReply)
_request_decoder = msgspec.msgpack.Decoder(LogRequest)


class BusNodeLogs:
    """The API server's side; fills `choregos.api.context.NodeLogs`."""

    def __init__(self, transport: CallTransport, region: str) -> None:
        self._transport = transport
        self._region = region

    async def lines(self, instance: Instance, choice: LogChoice) -> AsyncIterator[LogLine]:
        """See `choregos.api.context.NodeLogs.lines`."""
        record = instance.record
        if not record.node:
            raise NotFound(f"agent {instance.name} has no log: it is bound to no node yet")
        subject = node_subject(self._region, record.node, LOGS)
        tail = -1 if choice.tail_lines is None else choice.tail_lines
        request = LogRequest(1, record.uid, tail_lines=tail, since_ms=choice.since_ms, previous=choice.previous)
        while True:
            try:
                answer = await self._transport.request(
                    subject, msgspec.msgpack.encode(request), request.wait_s + ANSWER_TIMEOUT_S
                )
            except CallError as error:
                raise Temporary(f"node {record.node} does not answer for its logs: {error}") from error
            reply = _reply_decoder.decode(answer)
            for line in reply.lines:
                yield line
            if not choice.follow or choice.previous:
                return
            request = LogRequest(1, record.uid, after=reply.cursor, wait_s=WAIT_S)


class LogService:
    """The node's side: answers requests for the logs of the agents it hosts."""

    def __init__(self, host: AgentHost, transport: CallTransport) -> None:
        self._host = host
        self._transport = transport
        self._tasks = Tasks(on_failure=logged)
        self._close: Closer

    async def open(self, region: str, node: str) -> None:
        self._close = await self._transport.serve(node_subject(region, node, LOGS), self._received)

    async def close(self) -> None:
        await self._close()
        await self._tasks.close()

    def _received(self, payload: bytes, reply: str) -> None:
        # Over the limit the asker runs into its time-out and asks again.
        if reply and len(self._tasks) < WAITING_REQUESTS_MAX:
            self._tasks.start(self._answer(_request_decoder.decode(payload), reply), "answer for a log")

    async def _answer(self, request: LogRequest, reply: str) -> None:
        answer = await self._host.logs(request)
        with contextlib.suppress(CallError):  # the asker runs into its time-out and asks again
            await self._transport.publish(reply, msgspec.msgpack.encode(answer))
