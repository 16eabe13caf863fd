"""What becomes of errors: one paragraph with a remedy, an exit code, no traceback unless it is asked for."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choregos.cli.app import _command_first
from choregos.cli.exit_codes import ExitCode
from choregos.cli.words import UsageError, age, parse_duration, parse_targets
from choregos.foundation.errors import NotFound

Choregos = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["gett"], 'Did you mean "get"?'),
        (["get", "-o", "html"], "choregos get --help"),
        (["scale", "as/x"], "--replicas"),
        (["get", "agents", "--no-such-option"], "--no-such-option"),
        (["apply"], "-f FILE"),
        (["delete"], "say what to delete"),
        (["delete", "agents", "a", "-f", "x"], "does not exist"),
    ],
)
def test_wrong_usage_is_told_in_one_line(choregos: Choregos, words: list[str], part: str) -> None:
    result = choregos(*words)
    assert result.code in (ExitCode.USAGE, ExitCode.NOT_FOUND)
    assert part in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_without_a_kubeconfig_it_says_how_to_get_one(choregos: Choregos) -> None:
    result = choregos("get", "agents")
    assert result.code == ExitCode.NOT_FOUND
    assert "Start a fleet here with `choregos up`" in result.err


def test_debug_shows_where(choregos: Choregos) -> None:
    with pytest.raises(NotFound):
        choregos("get", "agents", "--debug")


def test_a_server_that_is_gone_is_named_with_a_remedy(
    choregos: Choregos, background: Any, data_directory: Path
) -> None:
    text = (data_directory / "kubeconfig").read_text().replace(background.api.url, "https://127.0.0.1:1")
    (data_directory / "kubeconfig").write_text(text)
    result = choregos("get", "agents")
    assert result.code == ExitCode.UNAVAILABLE
    assert "https://127.0.0.1:1 cannot be reached" in result.err
    assert "choregos doctor" in result.err


def test_a_damaged_kubeconfig_is_named(choregos: Choregos, data_directory: Path) -> None:
    (data_directory / "kubeconfig").write_text("nonsense")
    result = choregos("get", "agents")
    assert (result.code, "is not a kubeconfig" in result.err) == (ExitCode.INVALID, True)


def test_a_fault_of_ours_is_one_line_and_in_the_log_of_a_service(
    choregos: Choregos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("choregos.cli.session.Session.connect", broken)
    line = "Error: an error inside choregos: RuntimeError: oops. Run it again with --debug to see where.\n"
    assert choregos("get", "agents") == (ExitCode.FAILED, "", line)
    handler = logging.FileHandler(tmp_path / "service.log")
    logging.getLogger().addHandler(handler)
    try:
        assert choregos("get", "agents").code == ExitCode.FAILED
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert 'raise RuntimeError("oops")' in (tmp_path / "service.log").read_text()


@pytest.mark.real
def test_the_program_itself(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "choregos"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CHOREGOS_DATA_DIR": str(tmp_path / "none")}
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment, "timeout": 60}
    usage = subprocess.run([*program, "--help"], check=False, **options)
    assert usage.returncode == 0
    for command in ("up", "apply", "get", "describe", "delete", "scale", "wait", "call", "logs", "events", "doctor"):
        assert f"  {command}: " in usage.stdout
    missing = subprocess.run([*program, "get", "agents"], check=False, **options)
    assert missing.returncode == ExitCode.NOT_FOUND
    assert missing.stdout == ""
    assert missing.stderr.startswith("Error: there is no kubeconfig")
    assert subprocess.run([*program, "get", "-x"], check=False, **options).returncode == ExitCode.USAGE


@pytest.mark.real
def test_a_command_imports_no_server(tmp_path: Path) -> None:
    script = (
        "import sys; from choregos.__main__ import main; sys.argv[1:] = ['get', 'agents']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'starlette', 'uvicorn', 'nats', 'rich', 'choregos.api', 'choregos.store'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {"HOME": str(tmp_path), "CHOREGOS_DATA_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (["agents"], [("agents", "")]),
        (["agents", "a", "b"], [("agents", "a"), ("agents", "b")]),
        (["agent/a", "set/b"], [("agent", "a"), ("set", "b")]),
    ],
)
def test_targets(words: list[str], targets: list[tuple[str, str]]) -> None:
    assert parse_targets(words) == targets


@pytest.mark.parametrize("words", [[], ["agent/a", "b"], ["agent/"], ["/a"]])
def test_targets_without_sense(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_targets(words)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("250ms", 0.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 m", "-1s", "1w"])
def test_durations_without_sense(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (5, "5s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (3599, "59m"),
        (11400, "3h10m"),
        (90000, "25h"),
        (999999, "11d"),
    ],
)
def test_ages_are_kubectls(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-n", "x", "get", "a"], ["get", "-n", "x", "a"]),
        (["--data-dir=d", "--kubeconfig", "k", "get"], ["get", "--data-dir=d", "--kubeconfig", "k"]),
        (["get", "-n", "x"], ["get", "-n", "x"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_leading_options_go_behind_the_command(words: list[str], expected: list[str]) -> None:
    assert _command_first(words) == expected


HEAD = "apiVersion: choregos.dev/v1\nkind: AgentCluster\nmetadata: {name: x}\n"


def test_what_the_server_takes_no_more_of_is_told_with_its_place(
    choregos: Choregos, server: Any, tmp_path: Path
) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text(f"# two\n---\n{HEAD}spec: {{agents: [{{name: {'x' * 4_000_000}}}]}}\n")
    result = choregos("apply", "--server-side", "-f", str(path))
    assert result.code == ExitCode.INVALID
    assert re.search(r"huge\.yaml:3: Request entity too large: limit is \d+; this one has 400\d+ bytes", result.err)


def test_faults_of_one_manifest_of_several_are_told_with_its_place(
    choregos: Choregos, server: Any, tmp_path: Path
) -> None:
    path = tmp_path / "some.yaml"
    unknown = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t}\n"
    path.write_text(f"{HEAD}spec: {{agents: [1]}}\n---\n{unknown}")
    result = choregos("apply", "-f", str(path))
    assert "some.yaml:4: spec.agents[0]" in result.err
    assert "some.yaml:6: the server does not serve Thing of example.org/v1" in result.err
    assert choregos("delete", "-f", str(path)).err.startswith(f"Error: {path}:6: the server does not serve Thing")


@pytest.mark.parametrize("size", [2_000_000, 20_000_000])
def test_arguments_of_any_excessive_size_are_a_payload_too_large(
    choregos: Choregos, server: Any, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"text": "x" * size})))
    result = choregos("call", "a-0", "PayloadTooLarge", "-")
    assert (result.code, result.err.startswith("Error: PayloadTooLarge")) == (ExitCode.INVALID, True)


def test_arguments_that_nest_without_end_are_wrong_usage(choregos: Choregos) -> None:
    result = choregos("call", "a-0", "reply", '{"a": ' + "[" * 100_000)
    assert (result.code, "no JSON" in result.err) == (ExitCode.USAGE, True)
