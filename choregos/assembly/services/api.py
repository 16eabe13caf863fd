"""`choregos api`: the API server, one process.

Any number may run over the same logs, each with its own caches and port; none knows of another. It leads nothing and
writes only what clients ask for, so that however busy it is, controllers go on.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from contextlib import AsyncExitStack

from choregos.api.context import ApiContext
from choregos.api.node_ports import Nodes
from choregos.api.serve import ServeSettings, serve
from choregos.api.server import build_app, ensure_defaults
from choregos.assembly.machine.layout import DataDirectory, MachineConfig
from choregos.assembly.services.logs import EVENTS_TTL_S, Logs, open_logs
from choregos.assembly.services.of_node.commands import BusNodeCommands
from choregos.assembly.services.of_node.logs import BusNodeLogs
from choregos.assembly.services.of_node.usage import BusNodeUsage
from choregos.assembly.services.running import bus_address
from choregos.foundation.bus.address import BusAddress
from choregos.foundation.bus.connection import connect
from choregos.foundation.clock import Clock, SystemClock
from choregos.foundation.ids import SystemIds
from choregos.foundation.tasks import Tasks
from choregos.mesh.caller import Caller
from choregos.mesh.lost_hosts import LostHosts
from choregos.mesh.resolver import Resolver
from choregos.mesh.routes import Statistics
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.deadlines import Deadlines
from choregos.security.backends.audit_file import AuditFile
from choregos.security.credentials import BusUser
from choregos.security.pki import Authority, server_names
from choregos.security.tokens import Tokens
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.resources import ResourceStore

NAME = "choregos api"
LEARN_PERIOD_S = 1.0

SWITCH_S = 0.001
"""How long the event loop waits for a thread that computes (`api.sharing.decisions`), each time it comes back from the
kernel: five times in a request, and Python's 5 ms would add up."""


async def run_api(directory: DataDirectory, config: MachineConfig, port: int) -> None:
    """Serves until cancelled.

    Args:
        port: where on the machine's API host.
    """
    sys.setswitchinterval(SWITCH_S)
    address = bus_address(directory, config, BusUser.API)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(address, NAME))
        room = directory.disk.require_to_write
        logs = await stack.enter_async_context(open_logs(bus, config.region, before_write=room))
        context = await _open_context(stack, directory, address, logs, config.region)
        await ensure_defaults(context)
        await stack.enter_async_context(serve(build_app(context), _tls(directory, config, port)))
        await asyncio.get_running_loop().create_future()


async def _open_context(
    stack: AsyncExitStack, data: DataDirectory, address: BusAddress, logs: Logs, region: str
) -> ApiContext:
    """The read models and ports that requests are served from."""
    clock = SystemClock()
    resources = await stack.enter_async_context(ResourceStore(logs.resources, clock))
    events = await stack.enter_async_context(ResourceStore(logs.events, clock, ttl_s=EVENTS_TTL_S))
    directory = await stack.enter_async_context(Directory(logs.agents, region, clock))
    transport = await stack.enter_async_context(open_nats_transport(address, NAME, Deadlines()))
    resolver = Resolver(directory, Statistics(), time.monotonic)
    caller = Caller(transport, resolver.resolve, region=region, roll=random.random)
    stack.push_async_callback(caller.close)
    stack.callback(LostHosts(directory, caller.forget_hosts).close)
    tasks = await stack.enter_async_context(Tasks())
    tasks.start(_learn(resolver, caller, clock), "learn from outside calls")
    ids = SystemIds()
    audit, audit_refused = AuditFile(data.audit), AuditFile(data.audit_refused)
    stack.callback(audit.close)
    stack.callback(audit_refused.close)
    return ApiContext(
        resources=resources,
        events=events,
        directory=directory,
        instances=InstanceWriter(logs.agents, region),
        caller=caller,
        nodes=Nodes(
            BusNodeLogs(transport, region), BusNodeUsage(transport, region), BusNodeCommands(transport, region, clock)
        ),
        clock=clock,
        ids=ids,
        tokens=Tokens.open(data.pki, clock, ids),
        audit=audit,
        audit_refused=audit_refused,
    )


async def _learn(resolver: Resolver, caller: Caller, clock: Clock) -> None:
    """Tells the resolver once a second what the caller has seen of agents."""
    while True:
        await clock.sleep(LEARN_PERIOD_S)
        resolver.observe(caller.take_stats())


def _tls(directory: DataDirectory, config: MachineConfig, port: int) -> ServeSettings:
    """Where the API listens, with a certificate for the names that this machine is reached by."""
    authority = Authority.open(directory.pki, SystemClock())
    authority.server(server_names(socket.gethostname(), (config.api_host,)))
    identity = directory.pki / "server.pem"
    return ServeSettings(
        certificate=identity,
        key=identity,
        client_ca=authority.certificate_path,
        host=config.api_host,
        port=port,
    )
