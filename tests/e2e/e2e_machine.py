"""`choregos up` as a process, what belongs to it, and waiting for conditions.

Everything that `choregos up` starts inherits a mark in its environment. So `processes` also finds what has lost its
parent, whatever session it is in and whatever it is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import yaml

from choregos.client import Client
from choregos.foundation.ids import SystemIds

AGENTS = Path(__file__).parent / "agents"
BIN = Path(sys.executable).parent
MARK = "CHOREGOS_E2E_MACHINE"
PATIENCE_S = 60.0
POLL_S = 0.02
CAPACITY = "cpu=64,memory=64Gi,gpu=8"

T = TypeVar("T")
Object = dict[str, Any]


class Result(NamedTuple):
    code: int
    out: str
    err: str


def wait_for(condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """What `condition` returns once that is true.

    Raises:
        AssertionError: it was not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)
    return found


async def until(
    condition: Callable[[], Awaitable[T]], what: str | Callable[[], str], timeout_s: float = PATIENCE_S
) -> T:
    """As `wait_for`, for conditions that are awaited."""
    deadline = time.monotonic() + timeout_s
    while not (found := await condition()):
        said = what if isinstance(what, str) else what()
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {said}"
        await asyncio.sleep(POLL_S)
    return found


class UpProcess:
    """One `choregos up` and its data directory, which outlives it.

    Args:
        root: the data directory.
        notes: where its agents and the tests leave notes; made here.
    """

    def __init__(self, root: Path, notes: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.places = notes
        self.places.mkdir(exist_ok=True)
        self.said = notes / "said.txt"
        self._arguments = arguments or ("--api-port", "0", "--workers", "2", "--capacity", CAPACITY)
        self._mark = SystemIds().uid()
        # KUBECONFIG of whoever runs the tests must not matter.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "CHOREGOS"))}
        self.environment = {
            **inherited,
            "KUBECONFIG": str(root / "kubeconfig"),
            "CHOREGOS_DATA_DIR": str(root),
            "PATH": f"{BIN}{os.pathsep}{inherited.get('PATH', '')}",
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes]

    # Life

    def launch(self) -> None:
        """Starts it and returns at once."""
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "choregos", "up", "--data-dir", str(self.root), *self._arguments],
                env={**self.environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )

    def beside(self, *argv: str) -> subprocess.Popen[bytes]:
        """Starts another command of choregos on the same data directory; it belongs to the machine."""
        with (self.places / "beside.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "choregos", *argv, "--data-dir", str(self.root)],
                env={**self.environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )

    def start(self) -> None:
        """Starts it and returns when it says that it is up."""
        self.launch()
        wait_for(lambda: self.is_up or self.process.poll() is not None, "choregos up is up")
        assert self.is_up, self.talk

    @property
    def talk(self) -> str:
        """What it has said on stderr."""
        return self.said.read_text(errors="replace")

    @property
    def is_up(self) -> bool:
        return "choregos is up" in self.talk

    def signal(self, number: signal.Signals) -> int:
        """Sends a signal, waits for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        """SIGTERM; nothing may be left."""
        if self.process.poll() is None:
            assert self.signal(signal.SIGTERM) == 0, self.talk
        self.until_gone()

    def until_gone(self) -> None:
        wait_for(lambda: not self.processes(), f"every process ended; left: {self.processes()}")

    def kill_all(self) -> None:
        """For the end of a test that has failed."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if hasattr(self, "process"):
            self.process.wait()

    # Processes

    def processes(self) -> list[psutil.Process]:
        """All that came from this `choregos up` and live, orphans included."""
        return list(self._marked())

    def _marked(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self._mark:
                    yield process

    def named(self, name: str) -> list[psutil.Process]:
        """Those that are `nats-server`, `control`, `api`, `node`, `worker` or `up`."""
        return [process for process in self.processes() if _role(process) == name]

    def only(self, name: str) -> psutil.Process:
        found = wait_for(lambda: self.named(name), f"a process {name}")
        assert len(found) == 1, found
        return found[0]

    # Commands and clients

    def run(self, *argv: str, given: str = "", timeout_s: float = PATIENCE_S) -> Result:
        """A program of the virtual environment, as a user would run it."""
        done = subprocess.run(
            [str(BIN / argv[0]), *argv[1:]],
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=self.places,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def kubectl(self, *argv: str, given: str = "", timeout_s: float = PATIENCE_S) -> str:
        """Standard output of a kubectl that succeeds."""
        result = self.run("kubectl", *argv, given=given, timeout_s=timeout_s)
        assert result.code == 0, f"kubectl {' '.join(argv)}: {result.err}{result.out}"
        return result.out

    def choregos(self, *argv: str, given: str = "", timeout_s: float = PATIENCE_S) -> Result:
        return self.run("choregos", *argv, given=given, timeout_s=timeout_s)

    def client(self) -> Client:
        return Client.from_kubeconfig(self.root / "kubeconfig")

    # Manifests

    def template(self, name: str, class_name: str, replicas: int = 1, **fields: Any) -> Object:
        """An entry of `spec.agents` for a class of `agents/witness.py`."""
        module, _, made = class_name.rpartition(":")
        runtime = {"python": f"{module or 'witness'}:{made}", "path": str(AGENTS)}
        settings = {"places": str(self.places), **fields.pop("settings", {})}
        return {"name": name, "replicas": replicas, "runtime": runtime, "settings": settings, **fields}


MakeUp = Callable[..., UpProcess]
"""The fixture `make_up`."""


def cluster(name: str, *templates: Object, namespace: str = "default") -> Object:
    return {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"agents": list(templates)},
    }


def as_yaml(*objects: Object) -> str:
    return yaml.safe_dump_all(objects)


def condition(obj: Object, type: str) -> Object:
    found = obj.get("status", {}).get("conditions") or ()
    return next((entry for entry in found if entry["type"] == type), {})


async def ready_agents(client: Client, selector: str) -> list[Object]:
    return [agent for agent in await client.list("agents", selector=selector) if agent["status"].get("ready")]


async def applied(client: Client, manifest: Object, *, timeout_s: float = PATIENCE_S) -> Object:
    """Applies a cluster and waits until all its agents take calls."""
    await client.apply(manifest)
    name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    ready = await client.wait("agentcluster", name, "condition=Ready", timeout_s=timeout_s, namespace=namespace)
    assert ready is not None
    return ready


async def deleted(client: Client, name: str) -> None:
    await client.delete("agentcluster", name)
    await client.wait("agentcluster", name, "delete", timeout_s=PATIENCE_S)


def _role(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return ""
    if any(word.endswith("nats-server") for word in words[:1]):
        return "nats-server"
    if "choregos.agent.worker" in words:
        return "worker"
    return next((role for role in ("up", "control", "api", "node") if role in words[:4]), "")
