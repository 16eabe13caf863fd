"""A real API server over TLS on logs in memory: for tests of clients, without nats-server, nodes or agents.

Invariant: what a client sees over the wire is what the product serves; only what stands behind it is made up. It
has an authority, an administrator and a kubeconfig of its own. No controller runs: objects stay as they are written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choregos.api.context import ApiContext, Caller
from choregos.api.node_ports import AgentUse, Command, Measured, NodeLogs, Nodes, RunningCommand, Use
from choregos.api.serve import ServeSettings, serve
from choregos.api.server import build_app, ensure_defaults
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Temporary
from choregos.foundation.ids import SystemIds
from choregos.resources.templates import canonical_digest
from choregos.security.backends.audit_memory import AuditMemory
from choregos.security.kubeconfig import ApiAccess, write_kubeconfig
from choregos.security.pki import ADMINISTRATORS, Authority, server_names
from choregos.security.tokens import Tokens
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instance import Instance
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence, Write
from choregos.store.resources import ResourceStore
from choregos.wire.instances import VERSION, AgentRecord, Phase, StatusRecord, TemplateRecord

REGION = "local"


@dataclass(frozen=True, slots=True)
class ServedApi:
    """The server and how to reach it.

    Attributes:
        context: what stands behind it.
        kubeconfig: file of its administrator.
        fence: leadership of the region, for writing agents.
    """

    context: ApiContext
    authority: Authority
    kubeconfig: Path
    url: str
    fence: Fence

    async def start_agents(
        self, agent_set: str, count: int, template: Mapping[str, Any] | None = None, *, ready: bool = True
    ) -> None:
        """Has `<set>-0` … in namespace `default`, as a region's leader and a node would have made them.

        Args:
            ready: False: their class cannot be imported.
        """
        spec = {"name": agent_set, "runtime": {"python": "module:Class"}, **(template or {})}
        digest, encoded = canonical_digest(spec)
        writer, uid, now_ms = self.context.instances, self.context.ids.uid, self.context.clock.wall_ms()
        await writer.put_templates([("default", TemplateRecord(VERSION, digest, encoded))], self.fence)
        agents = [
            (
                "default",
                f"{agent_set}-{number}",
                AgentRecord(VERSION, uid(), agent_set, "uid-of-set", digest, "node-1", 1, now_ms),
            )
            for number in range(count)
        ]
        await writer.create_agents(agents, self.fence)
        statuses = [(namespace, name, _status(agent, now_ms, ready)) for namespace, name, agent in agents]
        await writer.put_statuses(statuses)
        await self.context.directory.wait_for(writer.revision)


def _status(agent: AgentRecord, now_ms: int, ready: bool) -> StatusRecord:
    if ready:
        return StatusRecord(VERSION, agent.uid, agent.binding, Phase.RUNNING, True, "worker-1", 0, now_ms, "Started")
    message = "Traceback …\nNo module named 'x'"
    return StatusRecord(VERSION, agent.uid, agent.binding, Phase.BACKOFF, False, "", 0, now_ms, "ImportFailed", message)


class _SilentNodes:
    """None measures or runs anything."""

    async def of_agents(self, instances: Sequence[Instance]) -> Measured[AgentUse]:
        return Measured({}, tuple({instance.record.node for instance in instances}))

    async def of_nodes(self, names: Sequence[str]) -> Measured[Use]:
        return Measured({}, tuple(names))

    @asynccontextmanager
    async def run(self, instance: Instance, command: Command) -> AsyncIterator[RunningCommand]:
        raise Temporary(f"node {instance.record.node} does not answer")
        yield

    @asynccontextmanager
    async def connect(self, instance: Instance, port: int) -> AsyncIterator[RunningCommand]:
        raise Temporary(f"node {instance.record.node} does not answer")
        yield


@asynccontextmanager
async def served_api(directory: Path, *, caller: Caller, logs: NodeLogs, port: int = 0) -> AsyncIterator[ServedApi]:
    """Serves while the context is open; certificates and the kubeconfig are kept in `directory`."""
    clock, ids = SystemClock(), SystemIds()
    agents_log = MemoryLog(clock)
    epoch = await agents_log.append(Write("al.local.region.epoch", b""))
    authority = Authority.open(directory / "pki", clock)
    server = authority.server(server_names("localhost"))
    admin = authority.client("admin", (ADMINISTRATORS,))
    settings = ServeSettings(server.path, server.path, authority.certificate_path, port=port)
    async with (
        ResourceStore(MemoryLog(clock), clock) as resources,
        ResourceStore(MemoryLog(clock), clock) as events,
        Directory(agents_log, REGION, clock) as agents,
    ):
        context = ApiContext(
            resources,
            events,
            agents,
            InstanceWriter(agents_log, REGION),
            caller,
            Nodes(logs, _SilentNodes(), _SilentNodes()),
            clock,
            ids,
            Tokens.open(directory / "pki", clock, ids),
            AuditMemory(),
            AuditMemory(),
        )
        await ensure_defaults(context)
        async with serve(build_app(context), settings) as serving:
            kubeconfig = directory / "kubeconfig"
            access = ApiAccess(serving.url, authority.pem, admin.certificate_pem, admin.key_pem)
            write_kubeconfig(kubeconfig, access)
            fence = Fence("al.local.region.fence", "al.local.region.epoch", epoch)
            yield ServedApi(context, authority, kubeconfig, serving.url, fence)
