"""`choregos control`: the fleet and region controllers, one process. It serves nobody.

Any number may run over the same logs; of each controller one leads. This process owns the streams: it makes them at
its start, and the others wait for them.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from choregos.assembly.machine.layout import DataDirectory, MachineConfig
from choregos.assembly.services.logs import EVENTS_TTL_S, Logs, open_logs, provision
from choregos.assembly.services.running import bus_address
from choregos.control.events import EventRecorder
from choregos.control.fleet.controller import FleetController, FleetStores
from choregos.control.region.controller import RegionController, RegionStores
from choregos.foundation.bus.connection import connect
from choregos.foundation.clock import SystemClock
from choregos.foundation.ids import SystemIds
from choregos.security.credentials import BusUser
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.leases.election import LeaderElection
from choregos.store.resources import ResourceStore

NAME = "choregos control"


async def run_control(directory: DataDirectory, config: MachineConfig) -> None:
    """Controls until cancelled."""
    address = bus_address(directory, config, BusUser.CONTROL)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(address, NAME))
        room = directory.disk.require_to_write
        logs = await stack.enter_async_context(open_logs(bus, config.region, before_write=room))
        await provision(logs, config.region)
        await _start_controllers(stack, logs, config)
        await asyncio.get_running_loop().create_future()


async def _start_controllers(stack: AsyncExitStack, logs: Logs, config: MachineConfig) -> None:
    """The fleet's and the region's controllers, each working whenever it is elected."""
    clock, ids, holder = SystemClock(), SystemIds(), f"control-{config.machine}"
    resources = await stack.enter_async_context(ResourceStore(logs.resources, clock))
    events = await stack.enter_async_context(ResourceStore(logs.events, clock, ttl_s=EVENTS_TTL_S))
    directory = await stack.enter_async_context(Directory(logs.agents, config.region, clock, history=0))
    writer = InstanceWriter(logs.agents, config.region)
    fleet_events = EventRecorder(events, clock, ids, "fleet")
    region_events = EventRecorder(events, clock, ids, "region", config.region)
    fleet = FleetController(
        FleetStores(resources, fleet_events, events, home=config.region),
        LeaderElection(logs.resources, "fleet", "fleet", holder, clock),
        clock,
        ids,
    )
    region = RegionController(
        RegionStores(resources, region_events, logs.agents, directory, writer, logs.resources),
        LeaderElection(logs.agents, config.region, "region", holder, clock),
        clock,
        ids,
    )
    for part in (fleet_events, region_events, fleet, region):
        await stack.enter_async_context(part)
