"""Calls from agent to agent, side by side with what they are made of and with xoscar.

Subjects, interleaved in one run so that a busy machine slows all alike:

- `raw`: nats-py's own `request` and `publish` between two processes, the limit;
- `choregos`: `Caller` → nats-server → `CallServer` and a typed method, between two processes;
- `same worker`: the same call to a neighbour in the caller's process;
- `xoscar`: actor call between two of its processes, if `--xoscar-python` names an interpreter that has it.

Ours and `raw` run on uvloop, as workers do; xoscar as it comes. Prints p50 and p99 in microseconds of sequential calls
and calls per second at 64 in flight, and the ratios to `raw`.

    python benchmarks/calls.py [--rounds 5] [--calls 2000] [--xoscar-python PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from choregos.foundation.bus import BusAddress, connect
from choregos.mesh.caller import Caller, LocalAgents
from choregos.mesh.routes import Target
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.calls import CallServer
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.invocation import Invoker
from choregos.sdk import Agent, AgentContext, capability
from choregos.sdk.binding import bind
from choregos.testing.nats_server import NatsServer
from choregos.wire.subjects import call_subject
from choregos.wire.worker import Candidate, Resolved

IN_FLIGHT = 64
PAYLOAD = "x" * 64
NAMES = ("raw", "choregos", "same worker", "xoscar")

Call = Callable[[], Awaitable[object]]


class Echo(Agent):
    """Answers with what it was sent."""

    @capability
    async def echo(self, text: str) -> str:
        return text


async def resolve(target: Target) -> Resolved:
    return Resolved(0, (Candidate("echo", "uid-" + target.capability, "host"),))


async def _callee(address: BusAddress) -> None:
    """The other process: a raw responder and a call server, until its standard input ends."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(address, "callee"))
        client = bus.client

        async def respond(message: object) -> None:
            await client.publish(message.reply, message.data)  # type: ignore[attr-defined]

        await client.subscribe("raw.echo", cb=respond)
        deadlines = Deadlines()
        transport = await stack.enter_async_context(open_nats_transport(address, "callee", deadlines))
        echo = bind(Echo, AgentContext("default", "echo", "uid-echo", call=_no_calls))
        server = CallServer(transport, {"echo": echo}.get, Invoker(deadlines))
        stack.push_async_callback(server.close)
        await server.serve(call_subject("local", "default", "host"))
        await client.flush()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _no_calls(*_: object, **__: object) -> None:
    raise NotImplementedError("this agent calls nobody")


async def _sequential(call: Call, calls: int) -> list[float]:
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1e6)
    return took


async def _concurrent(call: Call, calls: int) -> float:
    async def worker() -> None:
        for _ in range(calls // IN_FLIGHT):
            await call()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(worker())
    return calls // IN_FLIGHT * IN_FLIGHT / (time.perf_counter() - began)


class Figures:
    """What was measured of one subject."""

    def __init__(self) -> None:
        self.took_us: list[float] = []
        self.rates: list[float] = []

    def row(self) -> tuple[float, float, float]:
        cuts = statistics.quantiles(self.took_us, n=100)
        return cuts[49], cuts[98], statistics.median(self.rates)


async def _ours(stack: AsyncExitStack, address: BusAddress) -> dict[str, Call]:
    bus = await stack.enter_async_context(connect(address, "caller"))
    client = bus.client
    deadlines = Deadlines()
    transport = await stack.enter_async_context(open_nats_transport(address, "caller", deadlines))
    far = Caller(transport, resolve, region="local", roll=random.random)
    near_echo = bind(Echo, AgentContext("default", "echo", "uid-near", call=far.call))
    local = LocalAgents("default", {"echo": near_echo}.get, Invoker(deadlines))
    near = Caller(transport, resolve, region="local", roll=random.random, local=local)
    stack.push_async_callback(far.close)
    stack.push_async_callback(near.close)
    payload, arguments = PAYLOAD.encode(), {"text": PAYLOAD}
    return {
        "raw": lambda: client.request("raw.echo", payload, timeout=30),
        "choregos": lambda: far.call(Target("default", capability="echo"), "echo", arguments, timeout_s=30),
        "same worker": lambda: near.call(Target("default", capability="near"), "echo", arguments, timeout_s=30),
    }


XOSCAR = """
import asyncio, json, statistics, sys, time
import xoscar
IN_FLIGHT, PAYLOAD = 64, "x" * 64
class Echo(xoscar.Actor):
    async def echo(self, text):
        return text
async def main(calls):
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=2, subprocess_start_method="spawn")
    async with pool:
        ref = await xoscar.create_actor(
            Echo, address=pool.external_address, uid="echo", allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1)
        )
        await ref.echo(PAYLOAD)
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            took = []
            for _ in range(calls):
                began = time.perf_counter()
                await ref.echo(PAYLOAD)
                took.append((time.perf_counter() - began) * 1e6)
            async def worker():
                for _ in range(4 * calls // IN_FLIGHT):
                    await ref.echo(PAYLOAD)
            began = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
            rate = 4 * calls // IN_FLIGHT * IN_FLIGHT / (time.perf_counter() - began)
            print(json.dumps({"took": took, "rate": rate}), flush=True)
if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
"""


class Child:
    """A process that says `ready` and is spoken to by lines."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.ask("").strip() != "ready":
            raise RuntimeError(f"{command[0]} did not start")

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if line:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)


async def _measure(options: argparse.Namespace) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(NatsServer(folder)).address
        callee = Child(sys.executable, __file__, "--callee", address.servers[0], address.user, address.password)
        stack.callback(callee.close)
        xoscar: Child | None = None
        if options.xoscar_python:
            script = folder / "xoscar_echo.py"
            script.write_text(XOSCAR, encoding="utf-8")
            xoscar = Child(options.xoscar_python, str(script), str(options.calls))
            stack.callback(xoscar.close)
        calls = await _ours(stack, address)
        for call in calls.values():
            await _sequential(call, 200)
        for _ in range(options.rounds):
            for name, call in calls.items():
                measured = figures.setdefault(name, Figures())
                measured.took_us += await _sequential(call, options.calls)
                measured.rates.append(await _concurrent(call, options.calls * 4))
            if xoscar is not None:
                answer = json.loads(xoscar.ask("go"))
                measured = figures.setdefault("xoscar", Figures())
                measured.took_us += answer["took"]
                measured.rates.append(answer["rate"])
    return figures


def _report(figures: dict[str, Figures]) -> None:
    raw = figures["raw"].row()
    print(f"{'':14}{'p50 us':>10}{'p99 us':>10}{'calls/s':>12}{'p50 / raw':>12}{'rate / raw':>12}")
    for name in NAMES:
        if name in figures:
            p50, p99, rate = figures[name].row()
            print(f"{name:14}{p50:10.1f}{p99:10.1f}{rate:12,.0f}{p50 / raw[0]:12.2f}{rate / raw[2]:12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000, help="sequential per round; four times as many at once")
    parser.add_argument("--xoscar-python", default="", help="interpreter of an environment with xoscar")
    parser.add_argument("--callee", nargs=3, metavar=("SERVER", "USER", "PASSWORD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.callee:
        server, user, password = options.callee
        uvloop.run(_callee(BusAddress((server,), user, password)))
    else:
        _report(uvloop.run(_measure(options)))


if __name__ == "__main__":
    main()
