"""A fleet of witnesses under load: who runs where, whether every one of them answers, and whether anybody ran twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e_machine import Object, UpProcess, applied, cluster, until

from choregos.client import Client
from choregos.foundation.errors import CallError, ChoregosError, Temporary
from choregos.foundation.tasks import Tasks

CLUSTER = "fleet"
SELECTOR = f"choregos.dev/cluster={CLUSTER}"
CALL_TIMEOUT_S = 5.0


@dataclass
class Load:
    """What callers have seen so far."""

    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    untyped: list[str] = field(default_factory=list)


class Fleet:
    """So many witnesses, declared on a machine that may be killed in parts."""

    def __init__(self, machine: UpProcess, client: Client, size: int) -> None:
        self.machine = machine
        self.client = client
        self.size = size

    async def declare(self, **fields: Any) -> None:
        template = self.machine.template("witness", "Witness", self.size, resources={"cpu": "10m"}, **fields)
        await applied(self.client, cluster(CLUSTER, template))

    async def agents(self) -> dict[str, Object]:
        return {agent["metadata"]["name"]: agent for agent in await self.client.list("agents", selector=SELECTOR)}

    async def until_ready(self, *, not_in: frozenset[str] = frozenset()) -> dict[str, Object]:
        """All agents, once all of them take calls, and none of them in one of these workers."""
        found: dict[str, Object] = {}

        async def ready() -> bool:
            nonlocal found
            try:
                found = await self.agents()
            except Temporary:
                return False
            counted = await self.client.get("agentset", f"{CLUSTER}-witness")
            return (
                len(found) == self.size
                and all(agent["status"].get("ready") for agent in found.values())
                and not any(agent["status"].get("host") in not_in for agent in found.values())
                and counted["status"].get("readyReplicas") == self.size
            )

        def state() -> str:
            phases = Counter(agent["status"].get("phase") for agent in found.values())
            waiting = [agent["status"] for agent in found.values() if not agent["status"].get("ready")]
            return f"{self.size} ready agents; phases {dict(phases)}; for example {waiting[:1]}"

        await until(ready, state)
        return found

    async def until_settled(self) -> None:
        """Returns when all agents take calls, in workers that exist."""
        workers: set[int] = set()

        async def settled() -> bool:
            await self.until_ready()
            nonlocal workers
            workers = {worker.pid for worker in self.machine.named("worker")}
            try:
                answers = [
                    await self.client.call(agent=name, method="who", timeout_s=CALL_TIMEOUT_S)
                    for name in await self.agents()
                ]
            except (CallError, Temporary):
                return False
            return {answer["pid"] for answer in answers} <= workers

        await until(settled, lambda: f"every agent answers from one of the workers {workers}")

    async def ask_all(self) -> dict[str, Object]:
        """Calls each agent by its name until each has answered."""
        answers = {}
        for name in await self.agents():
            answers[name] = await self._ask(name)
        return answers

    async def _ask(self, name: str) -> Object:
        async def answer() -> Object:
            try:
                found: Object = await self.client.call(agent=name, method="who", timeout_s=CALL_TIMEOUT_S)
            except (CallError, Temporary):
                return {}
            return found

        return await until(answer, f"{name} answers")

    @asynccontextmanager
    async def load(self, callers: int = 4) -> AsyncIterator[Load]:
        """Calls the capability without pause while the context is open."""
        load = Load()

        async def call() -> None:
            while True:
                try:
                    await self.client.call(capability="witness", method="who", timeout_s=CALL_TIMEOUT_S)
                    load.answered += 1
                except (CallError, Temporary) as error:
                    load.failures[type(error).__name__] += 1
                    await asyncio.sleep(0)
                except ChoregosError as error:
                    load.untyped.append(repr(error))
                    await asyncio.sleep(0)

        async with Tasks() as tasks:
            for number in range(callers):
                tasks.start(call(), f"caller {number}")
            yield load

    async def until_answers(self, load: Load, more: int = 100) -> None:
        """Returns when callers have been answered so many times more."""
        goal = load.answered + more

        async def answered() -> bool:
            return load.answered >= goal

        await until(answered, f"{more} more answers; failures {dict(load.failures)}")

    async def verify(self, before: Mapping[str, Object]) -> dict[str, Object]:
        """Each agent answers under its old name and identity, and nobody has run twice."""
        after = await self.agents()
        assert identities(after) == identities(before)
        answers = await self.ask_all()
        assert {answer["name"] for answer in answers.values()} == set(before)
        assert len({answer["instance"] for answer in answers.values()}) == self.size
        assert {answer["pid"] for answer in answers.values()} <= {p.pid for p in self.machine.named("worker")}
        twins = self.machine.places / "TWINS"
        assert not twins.exists(), twins.read_text()
        return after


def identities(agents: Mapping[str, Object]) -> dict[str, str]:
    return {name: agent["metadata"]["uid"] for name, agent in agents.items()}


def hosts(agents: Mapping[str, Object]) -> frozenset[str]:
    return frozenset(agent["status"].get("host", "") for agent in agents.values())


async def until_event(client: Client, reason: str, *, about: str = "", text: str = "") -> Object:
    """The latest Event of this reason, once there is one; it may be told while something is started again."""

    async def find() -> Object | None:
        try:
            events = await client.events(namespace="")
        except Temporary:
            return None
        found = [
            event
            for event in events
            if event["reason"] == reason and about in event["involvedObject"]["name"] and text in event["message"]
        ]
        return found[-1] if found else None

    return await until(find, f"an event {reason} that says {text!r}")  # type: ignore[return-value]
