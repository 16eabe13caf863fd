"""The caller: finds, reaches, repeats only what is safe, and keeps its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from choregos.foundation.errors import (
    CallError,
    DeadlineExceeded,
    HandlerFailed,
    HostLost,
    InvalidArguments,
    MethodNotFound,
    NoAgent,
    Overloaded,
    PayloadTooLarge,
    Temporary,
    Unavailable,
)
from choregos.mesh.caller import Caller, LocalAgents
from choregos.mesh.routes import Target
from choregos.messaging.backends.memory import MemoryBus, MemoryCallTransport
from choregos.messaging.calls import CallServer
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.invocation import Invoker
from choregos.sdk import Agent, AgentContext, capability
from choregos.sdk.binding import BoundAgent, bind
from choregos.wire.worker import Candidate, Resolved

ECHO = Target("default", capability="echo")


class Echo(Agent):
    """Does what the tests need of an agent."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.calls = 0

    @capability
    async def echo(self, value: Any = None) -> Any:
        self.calls += 1
        return value

    @capability("wait")
    async def wait(self) -> str:
        self.calls += 1
        self.waiting.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "released"

    @capability("fail")
    async def fail(self) -> None:
        raise ZeroDivisionError("on purpose")

    @capability("relay")
    async def relay(self, agent: str, timeout_s: float) -> Any:
        return await self.call(agent=agent, method="wait", timeout_s=timeout_s)

    @capability("change")
    async def change(self, items: list[int]) -> list[int]:
        items.append(99)
        return items


class Host:
    """A worker: a call server with its agents."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.agents: dict[str, BoundAgent] = {}
        self.invoker = Invoker(world.deadlines, in_flight_max=2)
        self.server = CallServer(MemoryCallTransport(world.bus, world.deadlines), self.agents.get, self.invoker)

    def add(self, name: str, uid: str, caller: Caller) -> Echo:
        bound = bind(Echo, AgentContext("default", name, uid, caller.ask))
        self.agents[name] = bound
        assert isinstance(bound.agent, Echo)
        return bound.agent


class World:
    """A bus, hosts, and a resolver that says what it is told to."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.bus = MemoryBus()
        self.deadlines = Deadlines()
        self.answers: list[Resolved] = []
        self.asked: list[Target] = []
        self.hold: asyncio.Event | None = None
        self.failure: Exception | None = None
        self._stack = stack
        self.caller = self.new_caller()

    def new_caller(self, local: LocalAgents | None = None) -> Caller:
        transport = MemoryCallTransport(self.bus, self.deadlines)
        caller = Caller(transport, self.resolve, region="local", roll=lambda: 0.0, local=local)
        self._stack.push_async_callback(caller.close)
        return caller

    async def host(self, name: str) -> Host:
        host = Host(self, name)
        await host.server.serve(f"c.local.default.{name}")
        self._stack.push_async_callback(host.server.close)
        return host

    async def resolve(self, target: Target) -> Resolved:
        self.asked.append(target)
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def say(self, *names: str, host: str = "h1", ttl_s: float = 60.0, message: str = "") -> None:
        """Adds an answer: these agents, uid `uid-<name>`, on that host. The last one is repeated for ever."""
        candidates = tuple(Candidate(name, f"uid-{name}", host) for name in names)
        self.answers.append(Resolved(0, candidates, message, ttl_s))


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as world:
        yield world


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_route_is_resolved_once_and_remembered(world: World) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    for number in range(5):
        assert await world.caller.call(ECHO, "echo", {"value": number}) == number
    assert world.asked == [ECHO]


async def test_calls_at_once_share_one_resolution(world: World) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    world.hold = asyncio.Event()
    calls = [asyncio.ensure_future(world.caller.call(ECHO, "echo", {"value": number})) for number in range(2)]
    await eventually(lambda: bool(world.asked))
    world.hold.set()
    assert await asyncio.gather(*calls) == [0, 1]
    assert len(world.asked) == 1


async def test_one_cancelled_call_does_not_end_the_resolution_of_another(world: World) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    world.hold = asyncio.Event()
    first = asyncio.ensure_future(world.caller.call(ECHO, "echo"))
    await eventually(lambda: bool(world.asked))
    second = asyncio.ensure_future(world.caller.call(ECHO, "echo", {"value": 2}))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    world.hold.set()
    assert await second == 2


async def test_an_overdue_route_is_used_once_more_while_it_is_renewed(world: World) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a", ttl_s=0.0)
    assert await world.caller.call(ECHO, "echo", {"value": 1}) == 1
    world.hold = asyncio.Event()  # the renewal does not answer, the call does
    assert await world.caller.call(ECHO, "echo", {"value": 2}) == 2
    assert len(world.asked) == 2


async def test_nobody_there_says_why_and_is_not_remembered(world: World) -> None:
    world.say(message="no agent with echo is ready: 3 × Starting")
    with pytest.raises(NoAgent, match="3 × Starting"):
        await world.caller.call(ECHO, "echo")
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.answers.clear()
    world.say("a")
    assert await world.caller.call(ECHO, "echo", {"value": 1}) == 1


async def test_an_agent_that_moved_is_looked_up_and_called_again(world: World) -> None:
    await world.host("h1")
    (await world.host("h2")).add("a", "uid-a", world.caller)
    world.say("a", host="h1")
    world.say("a", host="h2")
    assert await world.caller.call(ECHO, "echo", {"value": 1}) == 1
    assert len(world.asked) == 2


async def test_a_host_that_is_gone_is_looked_up_and_called_again(world: World) -> None:
    (await world.host("h2")).add("a", "uid-a", world.caller)
    world.say("a", host="gone")
    world.say("a", host="h2")
    assert await world.caller.call(ECHO, "echo", {"value": 1}) == 1


async def test_it_is_repeated_once_only(world: World) -> None:
    world.say("a", host="gone")
    with pytest.raises(Unavailable, match="nobody listens"):
        await world.caller.call(ECHO, "echo")
    assert len(world.asked) == 2


async def test_an_overloaded_agent_is_left_for_another(world: World) -> None:
    host = await world.host("h1")
    busy = host.add("a", "uid-a", world.caller)
    free = host.add("b", "uid-b", world.caller)
    world.say("a", "b")
    by_name = Target("default", "a")
    held = [asyncio.ensure_future(world.new_caller().call(by_name, "wait")) for _ in range(2)]
    await eventually(lambda: host.agents["a"].in_flight == 2)
    assert await world.caller.call(ECHO, "echo", {"value": 1}) == 1
    assert (busy.calls, free.calls) == (2, 1)
    busy.release.set()
    await asyncio.gather(*held)


async def test_an_overloaded_agent_without_another_refuses(world: World) -> None:
    host = await world.host("h1")
    busy = host.add("a", "uid-a", world.caller)
    world.say("a")
    held = [asyncio.ensure_future(world.new_caller().call(ECHO, "wait")) for _ in range(2)]
    await eventually(lambda: host.agents["a"].in_flight == 2)
    with pytest.raises(Overloaded):
        await world.caller.call(ECHO, "echo")
    busy.release.set()
    await asyncio.gather(*held)


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [("fail", {}, HandlerFailed), ("none", {}, MethodNotFound), ("echo", {"wrong": 1}, InvalidArguments)],
)
async def test_what_the_agent_answers_is_not_repeated(
    world: World, method: str, arguments: dict[str, Any], error: type[CallError]
) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    with pytest.raises(error) as caught:
        await world.caller.call(ECHO, method, arguments)
    assert caught.value.agent == "default/a"
    assert len(world.asked) == 1


async def test_a_remote_failure_shows_the_remote_traceback(world: World) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    with pytest.raises(HandlerFailed, match="ZeroDivisionError: on purpose") as caught:
        await world.caller.call(ECHO, "fail")
    assert caught.value.remote_type == "ZeroDivisionError"
    assert "in fail" in caught.value.remote_traceback
    assert caught.value.__notes__[0].startswith("At default/a:\nTraceback")


async def test_the_time_of_a_call_includes_the_resolution(world: World) -> None:
    world.say("a")
    world.hold = asyncio.Event()
    with pytest.raises(DeadlineExceeded, match="not found within"):
        await world.caller.call(ECHO, "echo", timeout_s=0.02)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_no_time_is_no_call(world: World, timeout_s: float) -> None:
    agent = (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    with pytest.raises(DeadlineExceeded):
        await world.caller.call(ECHO, "echo", timeout_s=timeout_s)
    assert agent.calls == 0


async def test_a_resolver_that_fails_makes_the_call_unavailable(world: World) -> None:
    world.failure = Temporary("the node is busy")
    world.say()
    with pytest.raises(Unavailable, match="the node is busy"):
        await world.caller.call(ECHO, "echo")


async def test_a_deadline_reaches_through_a_chain_of_calls(world: World) -> None:
    host = await world.host("h1")
    host.add("first", "uid-first", world.caller)
    last = host.add("last", "uid-last", world.caller)
    world.say("first")
    world.say("last")
    with pytest.raises(DeadlineExceeded):
        await world.caller.call(Target("default", "first"), "relay", {"agent": "last", "timeout_s": 60}, timeout_s=0.05)
    await asyncio.wait_for(last.cancelled.wait(), 5)


async def test_cancelling_a_call_reaches_the_last_agent_of_a_chain(world: World) -> None:
    host = await world.host("h1")
    host.add("first", "uid-first", world.caller)
    last = host.add("last", "uid-last", world.caller)
    world.say("first")
    world.say("last")
    call = asyncio.ensure_future(
        world.caller.call(Target("default", "first"), "relay", {"agent": "last", "timeout_s": 60})
    )
    await asyncio.wait_for(last.waiting.wait(), 5)
    call.cancel()
    await asyncio.wait_for(last.cancelled.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("arguments", [{"value": object()}, {"value": 2**70}])
async def test_arguments_that_cannot_be_sent_are_named_before_anything_is(
    world: World, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArguments, match="cannot be sent"):
        await world.caller.call(ECHO, "echo", arguments)
    assert world.asked == []


async def test_arguments_over_the_limit_are_refused_before_they_are_sent(world: World) -> None:
    with pytest.raises(PayloadTooLarge, match="1,000,000"):
        await world.caller.call(ECHO, "echo", {"value": "x" * 1_000_000})
    assert world.asked == []


async def test_hosts_that_are_gone_are_forgotten(world: World) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    await world.caller.call(ECHO, "echo")
    world.caller.forget_hosts({"h1"})
    await world.caller.call(ECHO, "echo")
    assert len(world.asked) == 2


async def test_a_call_whose_host_is_lost_ends_and_is_not_repeated(world: World) -> None:
    host = await world.host("h1")
    ada = host.add("a", "uid-a", world.caller)
    world.say("a")
    waiting = asyncio.ensure_future(world.caller.call(Target("default", agent="a"), "wait"))
    await ada.waiting.wait()
    world.caller.forget_hosts({"h2"})
    world.caller.forget_hosts({"h1"})
    with pytest.raises(HostLost) as caught:
        await waiting
    assert (caught.value.agent, caught.value.code) == ("default/a", "HostLost")
    assert ada.calls == 1
    (stats,) = world.caller.take_stats()
    assert (stats.calls, stats.failures) == (1, 1)
    await host.server.close()


async def test_what_was_seen_is_counted_and_taken_once(world: World) -> None:
    (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    await world.caller.call(ECHO, "echo")
    with pytest.raises(HandlerFailed):
        await world.caller.call(ECHO, "fail")
    with pytest.raises(InvalidArguments):  # the caller's fault
        await world.caller.call(ECHO, "echo", {"wrong": 1})
    (stats,) = world.caller.take_stats()
    assert (stats.uid, stats.calls, stats.failures) == ("uid-a", 2, 1)
    assert stats.latency_ms_sum > 0
    assert world.caller.take_stats() == ()


async def test_calls_under_way_are_reported_as_load(world: World) -> None:
    agent = (await world.host("h1")).add("a", "uid-a", world.caller)
    world.say("a")
    call = asyncio.ensure_future(world.caller.call(ECHO, "wait"))
    await asyncio.wait_for(agent.waiting.wait(), 5)
    (stats,) = world.caller.take_stats()
    assert (stats.calls, stats.in_flight) == (0, 1)
    agent.release.set()
    await call


class TestNeighbours:
    """Calls within one process go without the bus and mean the same."""

    @pytest.fixture
    async def near(self, world: World) -> tuple[Caller, Host]:
        host = Host(world, "here")
        return world.new_caller(LocalAgents("default", host.agents.get, host.invoker)), host

    async def test_by_name_they_need_no_resolution(self, world: World, near: tuple[Caller, Host]) -> None:
        caller, host = near
        host.add("a", "uid-a", caller)
        assert await caller.call(Target("default", "a"), "echo", {"value": 1}) == 1
        assert world.asked == []

    async def test_by_capability_they_are_reached_without_the_bus(
        self, world: World, near: tuple[Caller, Host]
    ) -> None:
        caller, host = near
        host.add("a", "uid-a", caller)
        world.say("a", host="here")
        world.bus.reachable = False
        assert await caller.call(ECHO, "echo", {"value": 1}) == 1

    async def test_another_namespace_is_no_neighbour(self, world: World, near: tuple[Caller, Host]) -> None:
        caller, host = near
        host.add("a", "uid-a", caller)
        world.say("a", host="elsewhere")
        with pytest.raises(Unavailable):
            await caller.call(Target("other", "a"), "echo")

    async def test_no_object_is_shared(self, near: tuple[Caller, Host]) -> None:
        caller, host = near
        agent = host.add("a", "uid-a", caller)
        sent = [1, 2]
        got = await caller.call(Target("default", "a"), "change", {"items": sent})
        assert (sent, got) == ([1, 2], [1, 2, 99])
        value = {"inner": sent}
        assert (await caller.call(Target("default", "a"), "echo", {"value": value}))["inner"] is not sent
        assert agent.calls == 1

    async def test_deadline_failure_and_cancellation_are_the_same(self, near: tuple[Caller, Host]) -> None:
        caller, host = near
        agent = host.add("a", "uid-a", caller)
        target = Target("default", "a")
        with pytest.raises(DeadlineExceeded):
            await caller.call(target, "wait", timeout_s=0.02)
        assert agent.cancelled.is_set()
        with pytest.raises(HandlerFailed, match="on purpose") as caught:
            await caller.call(target, "fail")
        assert "in fail" in caught.value.remote_traceback
        assert "choregos/mesh" not in caught.value.remote_traceback

    async def test_a_neighbour_that_left_is_looked_up(self, world: World, near: tuple[Caller, Host]) -> None:
        caller, host = near
        host.add("a", "uid-a", caller)
        world.say("a", host="here")
        await caller.call(ECHO, "echo")
        del host.agents["a"]
        (await world.host("h2")).add("a", "uid-a", caller)
        world.answers.clear()
        world.say("a", host="h2")
        assert await caller.call(ECHO, "echo", {"value": 1}) == 1
