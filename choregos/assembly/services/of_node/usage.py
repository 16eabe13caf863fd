"""What agents and nodes use, asked of the nodes; fills `choregos.api.node_ports.NodeUsage`.

Nodes are asked side by side, so many at once; one that does not answer is named, and left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from choregos.api.node_ports import AgentUse, Measured, Use
from choregos.assembly.services.of_node.answering import Asker
from choregos.foundation.errors import Temporary
from choregos.messaging.transport import CallTransport
from choregos.store.instance import Instance
from choregos.wire.node import UIDS_MAX, USAGE, VERSION, UsageReply, UsageRequest

NODES_AT_ONCE_MAX = 16


class BusNodeUsage:
    def __init__(self, transport: CallTransport, region: str) -> None:
        self._asker: Asker[UsageRequest, UsageReply] = Asker(transport, region, USAGE, UsageReply)
        self._turns = asyncio.Semaphore(NODES_AT_ONCE_MAX)

    async def of_agents(self, instances: Sequence[Instance]) -> Measured[AgentUse]:
        """See `choregos.api.node_ports.NodeUsage.of_agents`."""
        by_node: dict[str, list[str]] = {}
        for instance in instances:
            if instance.record.node:
                by_node.setdefault(instance.record.node, []).append(instance.record.uid)
        answers = await asyncio.gather(*(self._of_agents(node, uids) for node, uids in by_node.items()))
        found = {uid: use for answer in answers for uid, use in (answer or {}).items()}
        return Measured(found, tuple(node for node, answer in zip(by_node, answers, strict=True) if answer is None))

    async def _of_agents(self, node: str, uids: Sequence[str]) -> dict[str, AgentUse] | None:
        found: dict[str, AgentUse] = {}
        for start in range(0, len(uids), UIDS_MAX):
            reply = await self._ask(node, tuple(uids[start : start + UIDS_MAX]))
            if reply is None:
                return None
            for agent in reply.agents:
                worker = reply.workers[agent.worker]
                use = Use(worker.cores * agent.share, worker.memory // worker.agents, worker.window_s, reply.wall_ms)
                found[agent.uid] = AgentUse(use, worker.host, worker.agents, worker.handling)
        return found

    async def of_nodes(self, names: Sequence[str]) -> Measured[Use]:
        """See `choregos.api.node_ports.NodeUsage.of_nodes`."""
        answers = await asyncio.gather(*(self._ask(name, ()) for name in names))
        found, silent = {}, []
        for name, reply in zip(names, answers, strict=True):
            if reply is None:
                silent.append(name)
            else:
                machine = reply.machine
                found[name] = Use(machine.cores, machine.memory, machine.window_s, reply.wall_ms)
        return Measured(found, tuple(silent))

    async def _ask(self, node: str, uids: tuple[str, ...]) -> UsageReply | None:
        async with self._turns:
            try:
                return await self._asker.ask(node, UsageRequest(VERSION, uids))
            except Temporary:
                return None
