"""`choregos call`: runs a method of an agent; its result is JSON on stdout, who answered is on stderr."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from choregos.cli.output import print_json, talk
from choregos.cli.session import Session
from choregos.cli.words import UsageError, parse_duration


async def call(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    capability: str = "",
    selector: str = "",
    timeout: str = "30s",
    session: Session = Session(),  # noqa: B008  (immutable)
) -> None:
    """Call a method of an agent: `choregos call AGENT METHOD [JSON]` or `choregos call --capability C [METHOD] [JSON]`.

    Example: `choregos call --capability conversation.reply reply '{"message": "Hello"}'`.

    Parameters
    ----------
    words
        The agent's name unless --capability is given; the method; the arguments as a JSON object, or `-` to read
        them from stdin.
    capability
        Call the best agent that has this capability.
    selector
        Only agents with these labels, together with --capability.
    timeout
        How long to wait for the answer: `500ms`, `30s`, `2m`.
    """
    target, arguments = parse_call(words, capability)
    async with session.connect() as client:
        answer = await client.call_detailed(
            {**target, "selector": selector},
            arguments,
            timeout_s=parse_duration(timeout),
            namespace=session.namespace,
        )
    print_json(answer.result)
    talk(f"{answer.agent} answered in {answer.duration_ms:.3g} ms")


def parse_call(words: tuple[str, ...], capability: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Whom to call, and with what.

    Raises:
        UsageError: a part is missing, left over, or no JSON object.
    """
    rest = list(words)
    option = next((word for word in rest if word.startswith("-") and word != "-"), "")
    if option:
        raise UsageError(f"unknown option {option}; see `choregos call --help`")
    arguments: dict[str, Any] = {}
    if rest and (rest[-1] == "-" or rest[-1].lstrip().startswith(("{", "["))):
        arguments = _arguments(rest.pop())
    target = {"capability": capability} if capability else {"agent": rest.pop(0) if rest else ""}
    target["method"] = rest.pop(0) if rest else ""
    if rest:
        raise UsageError(f'{rest[0]!r} is one word too many; arguments are a JSON object: \'{{"name": "value"}}\'')
    if not capability and not (target["agent"] and target["method"]):
        raise UsageError("say whom to call: AGENT METHOD, or --capability CAPABILITY")
    # `agents/web-0` is how `get -o name` prints it.
    return {**target, **({"agent": target["agent"].rpartition("/")[2]} if not capability else {})}, arguments


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(sys.stdin.read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the arguments are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise UsageError("the arguments must be a JSON object: one value for each name")
    return arguments
