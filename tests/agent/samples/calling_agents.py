"""Agents that call one another, for the tests of calls between workers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from choregos import Agent, capability
from choregos.foundation.errors import CallError


class Caller(Agent):
    @capability("calling")
    async def ask(self, agent: str, method: str, seconds: float = 0.0) -> object:
        arguments = {"seconds": seconds} if seconds else {}
        return await self.call(agent=agent, method=method, timeout_s=1000.0, **arguments)

    @capability("calling")
    async def ask_when(self, agent: str, exists: str, answer: str) -> None:
        """Calls once the file is there, and leaves the outcome in another."""
        self.asking = asyncio.ensure_future(self._ask_when(agent, Path(exists), Path(answer)))

    async def _ask_when(self, agent: str, exists: Path, answer: Path) -> None:
        while not exists.exists():
            await asyncio.sleep(0.01)
        try:
            said = str(await self.call(agent=agent, method="process"))
        except CallError as error:
            said = repr(error)
        beside = answer.with_suffix(".new")
        beside.write_text(said, encoding="utf-8")
        beside.rename(answer)

    @capability("identity")
    async def process(self) -> int:
        return os.getpid()

    @capability("patience")
    async def slow(self, seconds: float) -> str:
        self.log.info("begun")
        await asyncio.sleep(seconds)
        return "done"
