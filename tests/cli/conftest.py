"""A real API server in a thread, and the command line run in this process against it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from choregos.api.node_ports import LogChoice
from choregos.cli.app import run
from choregos.client import SyncClient
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
        if method in CALL_ERRORS:
            raise CALL_ERRORS[method](
                "it went wrong", agent="default/a-0", remote_type="KeyError", remote_traceback="Traceback: here"
            )
        return Outcome({"arguments": arguments}, target.agent or "a-0")


class TwoLines:
    """Logs two lines; with `follow` it ends after them."""

    async def lines(self, instance: Any, choice: LogChoice) -> AsyncIterator[Any]:
        for number in (1, 2)[-choice.tail_lines if choice.tail_lines else 0 :]:
            yield number * 1000, "INFO", f"line {number}"


class Background:
    """An event loop in a thread, with an API server in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = contextlib.AsyncExitStack()
        self.api: ServedApi

    def __enter__(self) -> Background:
        self._thread.start()
        serving = served_api(self._directory, caller=EchoCaller(), logs=TwoLines())  # type: ignore[arg-type]
        self.api = self.do(self._stack.enter_async_context(serving))
        return self

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def __exit__(self, *_: object) -> None:
        self.do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory, which commands use when they name none."""
    directory = tmp_path / "data"
    directory.mkdir()
    monkeypatch.setenv("CHOREGOS_DATA_DIR", str(directory))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return directory


@pytest.fixture
def background(data_directory: Path) -> Iterator[Background]:
    with Background(data_directory) as running:
        yield running


@pytest.fixture
def server(background: Background) -> Iterator[SyncClient]:
    """A client of the server that commands talk to."""
    with SyncClient.from_kubeconfig(background.api.kubeconfig) as client:
        yield client


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Choregos = Callable[..., Result]


@pytest.fixture
def choregos(data_directory: Path, capsys: pytest.CaptureFixture[str]) -> Choregos:
    """Runs one command line in this process."""

    def call(*words: str) -> Result:
        code = run(words)
        captured = capsys.readouterr()
        return Result(int(code), captured.out, captured.err)

    return call


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., str]:
    """Writes a manifest of an AgentCluster; returns its path."""

    def write(name: str = "support", replicas: int = 2, extra: str = "") -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"apiVersion: choregos.dev/v1\nkind: AgentCluster\nmetadata:\n  name: {name}\nspec:\n  agents:\n"
            f"  - name: chat\n    replicas: {replicas}\n    runtime: {{python: 'm:C', path: .}}\n{extra}"
        )
        return str(path)

    return write
