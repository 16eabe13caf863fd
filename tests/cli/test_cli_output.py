"""What others have written is shown and never steers the terminal, whichever command shows it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import choregos.cli
from choregos.cli.output import show_log_line
from choregos.client import Client, SyncClient
from choregos.foundation.terminal import printable, printable_json

Choregos = Callable[..., Any]

EVIL = "\x1b[2Jgone \x00\x07\x7f\x9b31m\rover\ttab"
SHOWN = "\\x1b[2Jgone \\x00\\x07\\x7f\\x9b31m\\x0dover\ttab"
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}


@pytest.fixture
def evil(server: SyncClient, background: Any) -> SyncClient:
    """A cluster whose annotation, condition and event try to steer the terminal."""
    template = {"name": "chat", "runtime": {"python": "m:C"}}
    made = server.create(
        {
            "apiVersion": "choregos.dev/v1",
            "kind": "AgentCluster",
            "metadata": {"name": "evil", "annotations": {"note": EVIL}},
            "spec": {"agents": [template]},
        }
    )
    condition = {"type": "Ready", "status": "False", "reason": "AgentsFailing", "message": EVIL}
    condition["lastTransitionTime"] = made["metadata"]["creationTimestamp"]

    async def judge() -> None:
        async with Client.from_kubeconfig(background.api.kubeconfig) as client:
            await client.patch("ac", "evil", {"status": {"conditions": [condition]}}, subresource="status")

    background.do(judge())
    about = {"kind": "AgentCluster", "name": "evil", "namespace": "default", "uid": made["metadata"]["uid"]}
    event = {
        "metadata": {"name": "e"},
        "type": "Warning",
        "reason": "BackOff",
        "message": EVIL,
        "involvedObject": about,
    }
    server.create({"apiVersion": "v1", "kind": "Event", **event, "lastTimestamp": "2026-11-22T10:00:00Z"})
    return server


@pytest.mark.parametrize(
    "words",
    [
        ["events"],
        ["get", "events"],
        ["get", "ac", "-o", "wide"],
        ["describe", "ac", "evil"],
        ["get", "ac", "evil", "-o", "yaml"],
        ["get", "ac", "evil", "-o", "json"],
        ["wait", "ac/evil", "--for=condition=Ready", "--timeout=10ms"],
        ["call", "evil", "\x1b[2J\x00"],
        ["get", "\x1b[2J"],
    ],
)
def test_no_command_prints_a_control_character(choregos: Choregos, evil: SyncClient, words: list[str]) -> None:
    result = choregos(*words)
    assert not CONTROLS & {*result.out, *result.err}
    assert "2J" in result.out + result.err


def test_json_and_yaml_still_say_the_same(choregos: Choregos, evil: SyncClient) -> None:
    assert choregos("get", "ac", "evil", "-o", "json").json["metadata"]["annotations"]["note"] == EVIL


def test_cells_are_text_for_every_client(choregos: Choregos, evil: SyncClient, background: Any) -> None:
    async def cells() -> list[Any]:
        async with Client.from_kubeconfig(background.api.kubeconfig) as client:
            [table] = (await client.listing("ac", tables=True)).items
            return list(table["rows"][0]["cells"])

    assert SHOWN in background.do(cells())
    assert SHOWN in choregos("get", "ac", "-o", "wide").out
    assert SHOWN in choregos("events").out


@pytest.mark.parametrize(("terminal", "shown"), [(True, SHOWN), (False, EVIL)])
def test_logs_reach_a_program_as_they_are_and_a_person_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool, shown: str
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    show_log_line(EVIL, flush=True)
    assert capsys.readouterr().out == f"{shown}\n"


def test_text_keeps_what_is_no_control_character() -> None:
    harmless = "añ 漢字 🎭 \n\t" + "".join(map(chr, range(0xA0, 0x180)))
    assert printable(harmless) == harmless
    assert printable(EVIL) == SHOWN
    assert json.loads(printable_json(json.dumps(EVIL, ensure_ascii=False))) == EVIL


def test_everything_is_printed_in_one_place() -> None:
    folder = Path(choregos.cli.__file__).parent
    for path in folder.rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        prints = [name for name in calls if isinstance(name, ast.Name) and name.id == "print"]
        assert not prints or path.name == "output.py", f"{path} prints by itself; use choregos.cli.output"
