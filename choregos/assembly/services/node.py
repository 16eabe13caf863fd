"""`choregos node`: the host of one machine's agents, one process and its workers.

Relative import paths of agents are those of the directory in which `choregos up` was started: this process changes
into it, and its workers inherit that.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import AsyncExitStack
from typing import Any

from choregos.agent.host import AgentHost, HostSettings
from choregos.assembly.machine.layout import DataDirectory, MachineConfig
from choregos.assembly.services.logs import EVENTS_TTL_S, Logs, open_logs
from choregos.assembly.services.of_node.answering import Answerer
from choregos.assembly.services.running import bus_address
from choregos.control.events import EventRecorder
from choregos.control.node.agent_node import NodeSettings
from choregos.control.node.controller import NodeController, NodeStores
from choregos.control.node.events import HostEvents
from choregos.control.node.statuses import StatusReporter
from choregos.foundation.bus.connection import connect
from choregos.foundation.clock import SystemClock
from choregos.foundation.ids import SystemIds
from choregos.mesh.lost_hosts import LostHosts
from choregos.mesh.resolver import Resolvers
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.transport import CallTransport
from choregos.resources import quantity
from choregos.security.credentials import BusUser
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.resources import ResourceStore
from choregos.wire.commands import COMMANDS, CommandReply, CommandRequest
from choregos.wire.node import LOGS, USAGE, LogRequest, UsageRequest

log = logging.getLogger(__name__)

NAME = "choregos node"


async def run_node(directory: DataDirectory, config: MachineConfig) -> None:
    """Hosts agents until cancelled, or until another process has taken this node's lease."""
    os.chdir(config.working_directory)
    address = bus_address(directory, config, BusUser.NODE)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(address, NAME))
        room = directory.disk.require_to_write
        logs = await stack.enter_async_context(open_logs(bus, config.region, before_write=room))
        host, statuses, instances = await _open_host(stack, logs, directory, config)
        transport = await stack.enter_async_context(open_nats_transport(address, NAME, Deadlines()))
        await _answer(stack, transport, host, config)
        clock, ids = SystemClock(), SystemIds()
        resources = await stack.enter_async_context(ResourceStore(logs.resources, clock))
        settings = NodeSettings(
            name=config.node,
            region=config.region,
            boot_id=ids.uid(),
            declared=quantity.parse_all(config.capacity),
        )
        stores = NodeStores(resources, logs.agents, instances)
        controller = NodeController(settings, stores, host, statuses, clock=clock, ids=ids)
        await stack.enter_async_context(controller)
        await controller.superseded.wait()
        log.error("another process runs as node %s; this one ends", config.node)


async def _answer(stack: AsyncExitStack, transport: CallTransport, host: AgentHost, config: MachineConfig) -> None:
    """What API servers may ask of this node."""
    for service in (
        Answerer(transport, LOGS, LogRequest, host.logs),
        Answerer(transport, USAGE, UsageRequest, host.usage),
        Answerer[Any, CommandReply](transport, COMMANDS, CommandRequest, host.command),
    ):
        await service.open(config.region, config.node)
        stack.push_async_callback(service.close)


async def _open_host(
    stack: AsyncExitStack, logs: Logs, directory: DataDirectory, config: MachineConfig
) -> tuple[AgentHost, StatusReporter, Directory]:
    """The agent host, what brings its statuses into the log, and the directory it finds agents in."""
    clock, ids = SystemClock(), SystemIds()
    instances = await stack.enter_async_context(Directory(logs.agents, config.region, clock, history=0))
    writer = InstanceWriter(logs.agents, config.region)
    statuses = await stack.enter_async_context(StatusReporter(config.node, instances, writer, clock))
    events = await stack.enter_async_context(ResourceStore(logs.events, clock, ttl_s=EVENTS_TTL_S))
    recorder = await stack.enter_async_context(EventRecorder(events, clock, ids, "node", config.node))
    resolvers = Resolvers(instances, time.monotonic)
    worker = bus_address(directory, config, BusUser.WORKER)
    settings = HostSettings(
        node=config.node,
        region=config.region,
        servers=worker.servers,
        user=worker.user,
        password=worker.password,
        workers=config.workers,
        sockets=directory.sockets,
    )
    host = AgentHost(
        settings,
        resolve=resolvers.answer,
        on_statuses=statuses.report,
        on_event=HostEvents(recorder, config.node).tell,
        on_stats=resolvers.observe,
        clock=clock,
        ids=ids,
    )
    await stack.enter_async_context(host)
    # Of workers of other nodes; of its own the host knows sooner.
    stack.callback(LostHosts(instances, host.invalidate).close)
    return host, statuses, instances
