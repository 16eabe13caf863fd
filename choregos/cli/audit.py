"""`choregos audit`: what the API server has refused, and what privileged it has done, from the data directory's record.

Reads files, not the API: whoever may read the record is whoever may read the data directory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from choregos.cli.output import TablePrinter, print_json, talk
from choregos.cli.session import Session
from choregos.foundation.errors import NotFound, Permanent

FILES = ("audit.jsonl", "audit-refused.jsonl")
"""In the directory of logs: what privileged was done, and what was refused."""


def audit(
    *,
    refused: bool = False,
    user: str = "",
    tail: int = 50,
    output: Annotated[Literal["text", "json"], Parameter(name=("--output", "-o"))] = "text",
    session: Session = Session(),  # noqa: B008
) -> None:
    """Show what was refused and what privileged was done on this machine, oldest first.

    Parameters
    ----------
    refused
        Only what was refused.
    user
        Only what this user did or tried.
    tail
        Only that many of the last ones.
    output
        `json` for scripts: the `audit.k8s.io/v1` events as they are recorded.
    """
    logs = session.data_directory / "logs"
    paths = [path for name in FILES if (path := logs / name).exists()]
    if not paths:
        raise NotFound(f"there is no record in {logs}: nothing was refused there yet, or --data-dir is another")
    events = (event for path in paths for event in _events(path) if _is_chosen(event, refused=refused, user=user))
    # No more than are wanted are kept: the files may have 256 MB.
    latest = heapq.nlargest(tail, enumerate(events), key=lambda each: (each[1]["requestReceivedTimestamp"], each[0]))
    chosen = [event for _, event in reversed(latest)]
    if output == "json":
        print_json(chosen)
    elif chosen:
        TablePrinter(("Time", "User", "Verb", "What", "Code", "Message")).rows(map(_row, chosen))
    else:
        talk("Nothing of that kind is recorded.")


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """All that is kept, oldest first."""
    older = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: int(each.suffix[1:]), reverse=True)
    try:
        for file in (*older, path):
            for line in file.read_bytes().splitlines():
                yield msgspec.json.decode(line)
    except (OSError, msgspec.DecodeError) as error:
        raise Permanent(f"the record {path} cannot be read: {error}") from error


def _is_chosen(event: dict[str, Any], *, refused: bool, user: str) -> bool:
    """Of an action that is recorded twice, its end; of one that has not ended, nothing."""
    if "responseStatus" not in event or (user and event["user"].get("username") != user):
        return False
    return not refused or event["annotations"].get("authorization.k8s.io/decision") == "forbid"


def _row(event: dict[str, Any]) -> list[Any]:
    about, status = event.get("objectRef") or {}, event["responseStatus"]
    resource = "/".join(about[key] for key in ("resource", "subresource") if key in about)
    place = "/".join(about[key] for key in ("namespace", "name") if key in about)
    who = event["user"].get("username", "<unknown>")
    acting_as = (event.get("impersonatedUser") or {}).get("username")
    return [
        event["requestReceivedTimestamp"],
        f"{who} as {acting_as}" if acting_as else who,
        event["verb"],
        f"{resource} {place}".strip() or event["requestURI"],
        status["code"],
        _message(event),
    ]


def _message(event: dict[str, Any]) -> str:
    message: str = event["responseStatus"].get("message", "")
    repeated = event["annotations"].get("choregos.dev/repeated")
    return f"({repeated} times) {message}" if repeated else message
