"""A real API server over TLS, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from choregos.api.node_ports import LogChoice
from choregos.client import Client
from choregos.foundation.errors import CALL_ERRORS
from choregos.mesh.routes import Target
from choregos.testing.served_api import ServedApi, served_api


@dataclass
class Outcome:
    result: Any
    agent: str
    duration_s: float = 0.001


class EchoCaller:
    """Returns the arguments; a method named like an error code raises that error."""

    async def ask(self, target: Target, method: str, arguments: Any, **_: Any) -> Outcome:
        if method == "sleep":
            await asyncio.Event().wait()
        if method in CALL_ERRORS:
            raise CALL_ERRORS[method](
                "it went wrong", agent="default/a-0", remote_type="KeyError", remote_traceback="T"
            )
        return Outcome({"arguments": arguments}, target.agent or "a-0")


@dataclass
class TwoLines:
    """Logs two lines; with `follow` it goes on for ever."""

    async def lines(self, instance: Any, choice: LogChoice) -> AsyncIterator[Any]:
        for number in (1, 2)[-choice.tail_lines if choice.tail_lines else 0 :]:
            yield number * 1000, "INFO", f"line {number}"
        if choice.follow:
            await asyncio.Event().wait()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ServedApi]:
    async with served_api(tmp_path, caller=EchoCaller(), logs=TwoLines()) as serving:  # type: ignore[arg-type]
        yield serving


@pytest.fixture
async def client(api: ServedApi) -> AsyncIterator[Client]:
    async with Client.from_kubeconfig(api.kubeconfig) as client:
        yield client
