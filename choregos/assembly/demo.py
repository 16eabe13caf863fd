"""`choregos demo`: the main job, told as it happens.

Starts a machine, applies an example, shows its agents becoming ready, holds the example's conversation and says who did
what and how long it took. On a terminal the agents are a table that changes in place; elsewhere plain lines.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from choregos.assembly.machine.options import UpOptions
from choregos.assembly.machine.up import Machine
from choregos.assembly.services.running import raise_descriptor_limit, until_signal
from choregos.client import Client
from choregos.client.manifests import load_manifests
from choregos.foundation.errors import Invalid
from choregos.foundation.tasks import Tasks
from choregos.foundation.terminal import printable

READY_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 120.0


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said to an example.

    Attributes:
        capability: each turn is one call of it, with arguments `message` and `conversation`, the turns before.
        turns: what the customer says.
    """

    capability: str
    turns: tuple[str, ...]


async def run_demo(example: Path, data_directory: Path | None) -> None:
    """Runs the whole demonstration; a signal ends it at any point.

    Raises:
        Invalid: the folder is not an example.
        Temporary: the agents were not ready in time.
    """
    raise_descriptor_limit()
    await until_signal(_demonstrate(example, data_directory))


async def _demonstrate(example: Path, data_directory: Path | None) -> None:
    console = Console()
    script = _load_script(example / "conversation.yaml")
    manifests = [manifest.content for manifest in load_manifests([str(example / "fleet.yaml")])]
    with _directory(data_directory) as place:
        console.print("[bold]1. A fleet starts[/]: nats-server, control plane, node", highlight=False)
        started = time.perf_counter()
        async with Machine(UpOptions(data_directory=place, api_port=0)) as machine:
            console.print(f"   up in {_seconds(started)}: {machine.url}, data in {place}", highlight=False)
            await _deploy(console, machine.client, manifests)
            await _converse(console, machine.client, script)
            await _summarize(console, machine.client)
            ending = time.perf_counter()
        console.print(f"[bold]5. The end[/]: every process ended in {_seconds(ending).strip()}", highlight=False)


async def _deploy(console: Console, client: Client, manifests: Sequence[dict[str, Any]]) -> None:
    console.print("[bold]2. A manifest becomes agents[/]", highlight=False)
    started = time.perf_counter()
    for manifest in manifests:
        applied = await client.apply(manifest)
        console.print(f"   {manifest['kind']} {manifest['metadata']['name']} {applied.outcome}", highlight=False)
    async with _shown_agents(console, client, started):
        for manifest in manifests:
            await client.wait(
                manifest["kind"], manifest["metadata"]["name"], "condition=Ready", timeout_s=READY_TIMEOUT_S
            )
    console.print(f"   all ready after {_seconds(started)}", highlight=False)


@asynccontextmanager
async def _shown_agents(console: Console, client: Client, started: float) -> AsyncIterator[None]:
    """Shows each agent's changes while the context is open."""
    rows: dict[str, tuple[str, ...]] = {}
    with Live(_agent_table(rows), console=console, transient=False) if console.is_terminal else _no_live() as live:

        async def follow() -> None:
            async for event in client.watch("agents"):
                row = _agent_row(event.object)
                if rows.get(event.object["metadata"]["name"]) == row:
                    continue
                rows[event.object["metadata"]["name"]] = row
                if live is not None:
                    live.update(_agent_table(rows))
                elif row[1] == "True" or row[3]:
                    console.print(f"   {_seconds(started)}  {_plain('  '.join(filter(None, row)))}", highlight=False)

        async with Tasks() as tasks:
            tasks.start(follow(), "follow the agents")
            yield


def _agent_row(agent: dict[str, Any]) -> tuple[str, ...]:
    """Name, readiness, phase and what is wrong."""
    status = agent.get("status", {})
    trouble = "" if status.get("phase") in (None, "Running", "Starting", "Pending") else status.get("message", "")
    return agent["metadata"]["name"], str(bool(status.get("ready"))), status.get("phase", ""), trouble


def _agent_table(rows: dict[str, tuple[str, ...]]) -> Table:
    table = Table("Agent", "Ready", "Phase", "Trouble", box=None, pad_edge=True)
    for name in sorted(rows):
        table.add_row(*map(_plain, rows[name]), style="green" if rows[name][1] == "True" else "")
    return table


@contextlib.contextmanager
def _no_live() -> Iterator[None]:
    yield


async def _converse(console: Console, client: Client, script: Script) -> None:
    console.print(f"[bold]3. A conversation[/]: every turn is a call of {script.capability}", highlight=False)
    turns: list[dict[str, str]] = []
    for message in script.turns:
        console.print(f"\n   [bold]customer[/]  {_plain(message)}", highlight=False)
        answer = await client.call_detailed(
            {"capability": script.capability},
            {"message": message, "conversation": turns},
            timeout_s=CALL_TIMEOUT_S,
        )
        reply = answer.result
        console.print(f"   [bold]{answer.agent}[/]  {_plain(reply['text'])}", highlight=False)
        for step in reply["consulted"]:
            told = _plain(f"{step['who']} ({step['what']}): {step['found']}")
            console.print(f"   {step['duration_ms']:9.1f} ms  {told}", style="dim", highlight=False, soft_wrap=True)
        handed = ", and handed over to a person" if reply["handed_over"] else ""
        console.print(f"   {answer.duration_ms:9.1f} ms  in all{handed}", style="dim", highlight=False)
        turns += [{"role": "customer", "text": message}, {"role": "agent", "text": reply["text"]}]


async def _summarize(console: Console, client: Client) -> None:
    console.print("\n[bold]4. What is running[/] (kubectl get agentsets shows the same)", highlight=False)
    for agent_set in await client.list("agentsets"):
        status = agent_set["status"]
        console.print(
            f"   {agent_set['metadata']['name']}: {status['readyReplicas']}/{status['replicas']} ready", highlight=False
        )


def _load_script(path: Path) -> Script:
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Script)
    except (OSError, msgspec.MsgspecError) as error:
        raise Invalid(f"{path} is not the script of a demonstration: {error}") from error


@contextlib.contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        yield chosen
        return
    place = Path(tempfile.mkdtemp(prefix="choregos-demo-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _plain(text: str) -> str:
    """Text of an agent: neither rich nor the terminal finds orders in it."""
    return escape(printable(text))


def _seconds(since: float) -> str:
    return f"{time.perf_counter() - since:5.2f} s"
