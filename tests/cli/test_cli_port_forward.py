"""`choregos port-forward`: what may be asked; over a whole machine in `tests/e2e/test_e2e_port_forward.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from choregos.cli.exit_codes import ExitCode
from choregos.cli.port_forward import parse_ports
from choregos.cli.words import UsageError


@pytest.mark.parametrize(
    ("word", "pair"), [("80", (80, 80)), ("8080:80", (8080, 80)), (":80", (0, 80)), ("0:80", (0, 80))]
)
def test_ports(word: str, pair: tuple[int, int]) -> None:
    assert parse_ports(word) == pair


@pytest.mark.parametrize("word", ["", ":", "80:", "http", "8080:0", "65536", "-1", "1:2:3", "x:80", "٣"])
def test_what_is_no_port(word: str) -> None:
    with pytest.raises(UsageError, match="is no"):
        parse_ports(word)


def test_what_the_namespace_forbids_is_said_before_anything_listens(
    choregos: Callable[..., Any], background: Any
) -> None:
    background.do(background.api.start_agents("web", 1))
    result = choregos("port-forward", "agent/web-0", ":80", ":81")
    assert (result.code, result.out) == (ExitCode.DENIED, "")
    assert "kubectl label namespace default choregos.dev/exec=allowed" in result.err


def test_what_is_asked_wrongly_is_said_at_once(choregos: Callable[..., Any], background: Any) -> None:
    for words, code in (
        (("agent/web-0",), ExitCode.USAGE),
        (("agentset/web", "80"), ExitCode.USAGE),
        (("web-0", "http"), ExitCode.USAGE),
        (("agent/none", "80"), ExitCode.NOT_FOUND),
    ):
        result = choregos("port-forward", *words)
        assert (result.code, result.out) == (code, ""), words
