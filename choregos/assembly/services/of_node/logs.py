"""Agents' logs, asked of the node that runs the agent; fills `choregos.api.node_ports.NodeLogs`.

Following is a chain of requests that each wait at the node for news, so a reader that goes away costs nothing, and a
node that restarts is simply asked again: its log then begins anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from choregos.api.node_ports import LogChoice, LogLine
from choregos.assembly.services.of_node.answering import ANSWER_TIMEOUT_S, Asker
from choregos.foundation.errors import NotFound
from choregos.messaging.transport import CallTransport
from choregos.store.instance import Instance
from choregos.wire.node import LOGS, VERSION, LogReply, LogRequest

WAIT_S = 10.0


class BusNodeLogs:
    def __init__(self, transport: CallTransport, region: str) -> None:
        self._asker: Asker[LogRequest, LogReply] = Asker(transport, region, LOGS, LogReply)

    async def lines(self, instance: Instance, choice: LogChoice) -> AsyncIterator[LogLine | None]:
        """See `choregos.api.node_ports.NodeLogs.lines`."""
        record = instance.record
        if not record.node:
            raise NotFound(f"agent {instance.name} has no log: it is bound to no node yet")
        tail = -1 if choice.tail_lines is None else choice.tail_lines
        request = LogRequest(VERSION, record.uid, tail_lines=tail, since_ms=choice.since_ms, previous=choice.previous)
        while True:
            reply = await self._asker.ask(record.node, request, request.wait_s + ANSWER_TIMEOUT_S)
            for line in reply.lines:
                yield line
            if not choice.follow or choice.previous:
                return
            if not reply.lines:
                yield None
            request = LogRequest(VERSION, record.uid, after=reply.cursor, wait_s=WAIT_S)
