"""Agents as their authors see them, run by the harness: life, calls, settings, log."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from choregos import Agent, capability
from choregos.foundation.errors import (
    AlreadyExists,
    DeadlineExceeded,
    HandlerFailed,
    InvalidArguments,
    MethodNotFound,
    NoAgent,
    NotFound,
)
from choregos.testing import AgentHarness


class Knowledge(Agent):
    """Answers from its settings."""

    def __init__(self) -> None:
        self.events = [f"init {self.name}"]
        self.hangs = False

    async def on_start(self) -> None:
        self.events.append("start")

    async def on_stop(self) -> None:
        self.events.append("stop")

    @capability("search")
    async def search(self, question: str) -> list[str]:
        self.log.info("searched", question=question)
        return [*self.settings.get("facts", []), self.labels.get("tier", "")]

    @capability("search")
    async def where(self) -> dict[str, Any]:
        return {"name": self.name, "namespace": self.namespace, "env": dict(self.env), "repr": repr(self)}

    @capability("think")
    def think(self) -> str:
        return threading.current_thread().name

    @capability("first")
    def first(self) -> str:
        return next(iter([]))

    @capability("hang")
    async def hang(self) -> None:
        self.hangs = True
        await asyncio.get_running_loop().create_future()


class Conversation(Agent):
    """Asks others."""

    @capability
    async def converse(self, text: str) -> Any:
        return await self.call(capability="search", method="search", question=text)

    @capability("odd")
    async def odd(self, agent: str, method: str) -> Any:
        # The method called has arguments of the names that `call` itself has.
        return await self.call(agent="odd-names", arguments={"agent": agent, "method": method})


class OddNames(Agent):
    """Its arguments are named as those of `call`."""

    @capability
    async def odd(self, agent: str, method: str) -> str:
        return f"{agent} {method}"


async def test_an_agent_lives_from_start_to_stop() -> None:
    async with AgentHarness() as harness:
        knowledge = await harness.start(Knowledge, "k")
        assert knowledge.events == ["init k", "start"]
    assert knowledge.events == ["init k", "start", "stop"]


async def test_it_is_called_by_capability_and_by_name() -> None:
    async with AgentHarness("shop") as harness:
        await harness.start(Knowledge, settings={"facts": ["a"]}, labels={"tier": "gold"}, env={"KEY": "v"})
        assert await harness.call(capability="search", method="search", question="?") == ["a", "gold"]
        assert await harness.call(agent="knowledge", method="where") == {
            "name": "knowledge",
            "namespace": "shop",
            "env": {"KEY": "v"},
            "repr": "<Knowledge shop/knowledge>",
        }


async def test_agents_call_each_other() -> None:
    async with AgentHarness() as harness:
        await harness.start(Conversation)
        with pytest.raises(HandlerFailed, match="NoAgent: no agent in default has search"):
            await harness.call(capability="converse", text="hi")
        await harness.start(Knowledge, settings={"facts": ["b"]})
        assert await harness.call(capability="converse", text="hi") == ["b", ""]


async def test_arguments_named_like_those_of_call() -> None:
    async with AgentHarness() as harness:
        await harness.start(Conversation)
        await harness.start(OddNames, "odd-names")
        arguments = {"agent": "x", "method": "y"}
        assert await harness.call(agent="conversation", method="odd", arguments=arguments) == "x y"


async def test_selectors_choose_among_agents() -> None:
    async with AgentHarness() as harness:
        await harness.start(Knowledge, "gold", labels={"tier": "gold"})
        await harness.start(Knowledge, "silver", labels={"tier": "silver"})
        for name in ("gold", "silver"):
            found = await harness.call(capability="search", method="where", selector=f"tier={name}")
            assert found["name"] == name
        with pytest.raises(NoAgent, match="none matches"):
            await harness.call(capability="search", method="where", selector="tier=lead")


async def test_a_manifest_may_declare_other_capabilities_than_the_class() -> None:
    async with AgentHarness() as harness:
        await harness.start(Knowledge, capabilities=["lore"])
        assert (await harness.call(capability="lore", method="where"))["name"] == "knowledge"
        with pytest.raises(NoAgent):
            await harness.call(capability="search", method="where")


async def test_plain_methods_run_in_a_thread() -> None:
    async with AgentHarness() as harness:
        await harness.start(Knowledge)
        assert await harness.call(capability="think") != threading.current_thread().name


async def test_an_iterator_that_ends_in_a_thread_is_an_error_of_the_method() -> None:
    async with AgentHarness() as harness:
        await harness.start(Knowledge)
        with pytest.raises(HandlerFailed, match="first raised StopIteration"):
            await harness.call(capability="first")


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("search", {"question": 1}, InvalidArguments),
        ("wrong", {}, MethodNotFound),
        ("hang", {}, DeadlineExceeded),
    ],
)
async def test_errors_are_those_of_production(method: str, arguments: dict[str, Any], error: type[Exception]) -> None:
    async with AgentHarness() as harness:
        await harness.start(Knowledge)
        with pytest.raises(error):
            await harness.call(agent="knowledge", method=method, arguments=arguments, timeout_s=0.05)


async def test_stopping_ends_calls_and_takes_the_agent_out() -> None:
    async with AgentHarness() as harness:
        knowledge = await harness.start(Knowledge)
        hanging = asyncio.ensure_future(harness.call(capability="hang"))
        while not knowledge.hangs:
            await asyncio.sleep(0)
        await harness.stop("knowledge")
        with pytest.raises(Exception, match="stops"):
            await hanging
        with pytest.raises(NoAgent, match="there is no agent knowledge"):
            await harness.call(agent="knowledge", method="where")
        with pytest.raises(NotFound):
            await harness.stop("knowledge")
        await harness.start(Knowledge)
        assert await harness.call(agent="knowledge", method="think")


async def test_a_name_is_taken_once() -> None:
    async with AgentHarness() as harness:
        await harness.start(Knowledge)
        with pytest.raises(AlreadyExists):
            await harness.start(Knowledge)


async def test_an_agent_that_fails_to_start_is_not_there() -> None:
    class Failing(Agent):
        async def on_start(self) -> None:
            raise ValueError("no model")

        @capability
        async def anything(self) -> None: ...

    async with AgentHarness() as harness:
        with pytest.raises(ValueError, match="no model"):
            await harness.start(Failing)
        with pytest.raises(NoAgent):
            await harness.call(capability="anything")


async def test_calling_needs_one_of_agent_and_capability() -> None:
    async with AgentHarness() as harness:
        knowledge = await harness.start(Knowledge)
        for wrong in ({}, {"agent": "a", "capability": "b"}):
            with pytest.raises(TypeError, match="either the agent or the capability"):
                await knowledge.call(**wrong)
            with pytest.raises(TypeError, match="either the agent or the capability"):
                await harness.call(**wrong)


async def test_the_log_knows_whose_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "choregos.agents")
    async with AgentHarness() as harness:
        knowledge = await harness.start(Knowledge)
        await harness.call(capability="search", method="search", question="50% off?")
        knowledge.log.warning("%d of %d", 3, 4, share="75%")
    first, second = caplog.records
    assert first.getMessage() == "searched question='50% off?'"
    assert second.getMessage() == "3 of 4 share='75%'"
    assert (first.agent, first.fields) == ("default/knowledge", {"question": "50% off?"})  # type: ignore[attr-defined]
    assert (first.funcName, first.filename) == ("search", "test_sdk_agent_harness.py")


async def test_settings_are_the_agents_own() -> None:
    settings = {"facts": ["a"]}
    async with AgentHarness() as harness:
        knowledge = await harness.start(Knowledge, settings=settings)
        settings["facts"].append("b")
        assert knowledge.settings == {"facts": ["a"]}
