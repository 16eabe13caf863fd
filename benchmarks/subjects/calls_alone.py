"""Our calls without a fleet: a `Caller` and a `CallServer` in two plain processes, as workers have them.

calls_alone.py serve|call SOCKETS SERVER USER     (the password is the first line of standard input)
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from benchmarks.echo_agents import Echo
from benchmarks.lines import Answer, serve_lines
from benchmarks.timing import PAYLOAD, call_figures
from choregos.foundation.bus.address import BusAddress
from choregos.mesh.caller import Caller
from choregos.mesh.routes import Target
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.backends.neighbours import open_neighbour_transport
from choregos.messaging.calls import CallServer
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.invocation import Invoker
from choregos.sdk import AgentContext
from choregos.sdk.binding import bind
from choregos.wire.subjects import call_subject
from choregos.wire.worker import Candidate, Resolved

NAMESPACE, HOST = "default", "calls-alone"
ARGUMENTS = {"payload": PAYLOAD}


async def resolve(_: Target) -> Resolved:
    return Resolved(0, (Candidate("echo", "uid-echo", HOST),))


async def main(role: str, sockets: str, server: str, user: str) -> None:
    address = BusAddress((server,), user, json.loads(sys.stdin.readline()))
    async with AsyncExitStack() as stack:
        deadlines = Deadlines()
        bus = await stack.enter_async_context(open_nats_transport(address, f"calls alone: {role}", deadlines))
        transport = await stack.enter_async_context(open_neighbour_transport(bus, Path(sockets), deadlines))
        caller = Caller(transport, resolve, region="local", roll=random.random)
        stack.push_async_callback(caller.close)
        if role == "serve":
            echo = bind(Echo, AgentContext(NAMESPACE, "echo", "uid-echo", caller.ask))
            calls = CallServer(transport, {"echo": echo}.get, Invoker(deadlines))
            stack.push_async_callback(calls.close)
            await calls.serve(call_subject("local", NAMESPACE, HOST))
            # The server takes one client's messages in order: what it has answered, it had subscribed before.
            await caller.call(Target(NAMESPACE, agent="echo"), "echo", ARGUMENTS, timeout_s=10)
        target = Target(NAMESPACE, agent="echo")

        async def handle(command: dict[str, int]) -> Answer:
            return await call_figures(
                lambda: caller.call(target, "echo", ARGUMENTS, timeout_s=30), command["calls"], command["in_flight"]
            )

        await serve_lines(handle)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
