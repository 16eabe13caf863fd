"""`choregos logs`, `events`, `version`: what agents say, what happened, what runs."""

from __future__ import annotations

import contextlib
from importlib.metadata import version as installed_version
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from choregos.cli.output import TablePrinter, print_json, show, show_log_line, talk
from choregos.cli.session import Session
from choregos.cli.words import age, parse_duration, parse_targets
from choregos.client import Object
from choregos.client.client import event_time
from choregos.foundation.clock import SystemClock, parse_rfc3339
from choregos.foundation.errors import ChoregosError


async def logs(
    agent: str,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"))] = False,
    tail: int | None = None,
    since: str = "",
    previous: Annotated[bool, Parameter(name=("--previous", "-p"))] = False,
    session: Session = Session(),  # noqa: B008  (immutable)
) -> None:
    """Print what an agent has logged since it was last started.

    Parameters
    ----------
    agent
        Name of the agent.
    follow
        Go on printing, until Ctrl-C or the agent's end.
    tail
        Only that many of the last lines.
    since
        Only lines of the last `30s`, `5m`, `1h`.
    previous
        What it had logged before it was last started again, instead.
    """
    since_s = max(1, round(parse_duration(since))) if since else None
    name = agent.rpartition("/")[2]
    async with session.connect() as client:
        lines = client.logs(
            name, namespace=session.namespace, follow=follow, tail_lines=tail, since_s=since_s, previous=previous
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                show_log_line(line, flush=follow)


async def events(
    *,
    watch: Annotated[bool, Parameter(name=("--watch", "-w"))] = False,
    about: Annotated[str, Parameter(name="--for")] = "",
    all_namespaces: Annotated[bool, Parameter(name=("--all-namespaces", "-A"))] = False,
    session: Session = Session(),  # noqa: B008
) -> None:
    """Show what happened in the last hour, oldest first.

    Parameters
    ----------
    watch
        Go on showing what happens, until Ctrl-C.
    about
        Only what happened to one object: KIND/NAME.
    all_namespaces
        Of every namespace.
    """
    namespace = "" if all_namespaces else session.namespace
    async with session.connect() as client:
        fields = ""
        if about:
            [(kind, name)] = parse_targets([about])
            served = (await client.catalogue()).by_word(kind).kind
            fields = f"involvedObject.kind={served},involvedObject.name={name}"
        listing = await client.listing("events", namespace=namespace, field_selector=fields)
        printer = TablePrinter(("Last Seen", "Type", "Reason", "Object", "Message"))
        found = sorted(listing.items, key=event_time)
        if found:
            printer.rows(map(_event_row, found))
        elif not watch:
            talk("Nothing happened in the last hour.")
        if not watch:
            return
        changes = client.watch("events", namespace=namespace, field_selector=fields, after=listing)
        async with contextlib.aclosing(changes):
            async for change in changes:
                if change.type != "DELETED":
                    printer.rows([_event_row(change.object)])


def _event_row(event: Object) -> list[Any]:
    involved = event.get("involvedObject") or {}
    try:
        seen = age((SystemClock().wall_ms() - parse_rfc3339(event_time(event))) / 1000)
    except ValueError:
        seen = ""
    about = f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
    return [seen, event.get("type"), event.get("reason"), about, event.get("message")]


async def version(
    *,
    client: bool = False,
    output: Annotated[Literal["text", "json"], Parameter(name=("--output", "-o"))] = "text",
    session: Session = Session(),  # noqa: B008
) -> None:
    """Show the versions of this command and of the server.

    Parameters
    ----------
    client
        Only of this command; the server is not asked.
    output
        `json` for scripts.
    """
    found: dict[str, Any] = {"client": installed_version("choregos")}
    if not client:
        try:
            async with session.connect() as connection:
                found["server"] = (await connection.version()).get("gitVersion", "")
        except ChoregosError as error:
            talk(f"The server's version is not known: {error}")
    if output == "json":
        print_json(found)
    else:
        for part, number in found.items():
            show(f"{part}: {number}")
