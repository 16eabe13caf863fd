"""`choregos apply`, `delete`, `scale`, `wait`: what changes objects, and waiting until they have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from choregos.cli.output import show, talk
from choregos.cli.session import Session
from choregos.cli.words import UsageError, parse_duration, parse_targets
from choregos.client import Client, Object
from choregos.client.manifests import Manifest, load_manifests
from choregos.foundation.errors import CallError, ChoregosError, Invalid, NotFound, Temporary

FILES_HELP = "File or folder of manifests; `-` is stdin. May be given more than once."
Files = Annotated[
    tuple[str, ...],
    Parameter(name=("--filename", "-f"), help=FILES_HELP, negative_iterable=(), allow_leading_hyphen=True),
]
Selector = Annotated[str, Parameter(name=("--selector", "-l"))]


async def apply(
    *,
    filename: Files = (),
    dry_run: bool = False,
    server_side: bool = False,
    force_conflicts: bool = False,
    session: Session = Session(),  # noqa: B008  (immutable)
) -> None:
    """Make objects as manifests say: create what is missing, change what differs.

    Parameters
    ----------
    dry_run
        Ask the server what would happen, and change nothing.
    server_side
        Let the server keep who owns which field; for manifests of more than 256 KiB.
    force_conflicts
        With --server-side: take over fields that others own.
    """
    if not filename:
        raise UsageError("say what to apply: -f FILE")
    if force_conflicts and not server_side:
        raise UsageError("--force-conflicts only works with --server-side")
    manifests = load_manifests(filename)
    suffix = " (dry run)" if dry_run else ""
    async with session.connect() as client:
        _adopt_namespace(manifests, session)

        async def one(manifest: Manifest) -> str:
            try:
                applied = await client.apply(
                    manifest.content, dry_run=dry_run, server_side=server_side, force=force_conflicts
                )
            except ChoregosError as error:
                raise _placed(error, manifest) from error
            return f"{await _name(client, applied.object)} {applied.outcome}{suffix}"

        # One after the other: a later manifest may need an earlier one, such as its namespace.
        report = _Report()
        for manifest in manifests:
            await report.of(one(manifest))
        report.end()


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Deletion:
    """How to delete, and how long to wait for it.

    Attributes:
        timeout: empty: as long as it takes.
        grace_period: seconds; None: as the agents' template says.
    """

    wait: Annotated[
        bool, Parameter(help="Wait until they are gone; what runs is drained first.", negative="--no-wait")
    ] = True
    timeout: Annotated[str, Parameter(help="How long to wait: `30s`, `5m`; by default as long as it takes.")] = ""
    grace_period: Annotated[
        int | None, Parameter(help="Seconds agents may take to finish; by default as their template says.")
    ] = None
    ignore_not_found: Annotated[bool, Parameter(help="An object that does not exist is no failure.")] = False


async def delete(
    *words: str,
    filename: Files = (),
    selector: Selector = "",
    all: bool = False,
    how: Deletion = Deletion(),
    session: Session = Session(),  # noqa: B008
) -> None:
    """Delete objects, and wait until they are gone.

    Parameters
    ----------
    words
        KIND NAME …, or KIND/NAME …; KIND alone together with --selector or --all.
    selector
        Those with these labels.
    all
        All of the kind in the namespace.
    """
    limit_s = parse_duration(how.timeout) if how.timeout else None
    manifests = load_manifests(filename) if filename else []
    if bool(manifests) == bool(words):
        raise UsageError("say what to delete: KIND NAME …, KIND/NAME …, or -f FILE")
    async with session.connect() as client:
        if manifests:
            _adopt_namespace(manifests, session)
            which = [await _address(client, manifest) for manifest in manifests]
        else:
            which = await _select(client, words, session, selector, all)
        deleted = await _delete_all(client, which, how)
        if how.wait:
            await _await_gone(client, deleted, limit_s)


async def scale(*words: str, replicas: int, session: Session = Session()) -> None:  # noqa: B008
    """Set how many agents a set shall have.

    Parameters
    ----------
    words
        KIND NAME …, or KIND/NAME …: `agentset/support-conversation`.
    replicas
        How many.
    """
    if replicas < 0:
        raise UsageError("--replicas cannot be negative")
    async with session.connect() as client:

        async def one(kind: str, name: str) -> str:
            await client.scale(kind, name, replicas, namespace=session.namespace)
            return f"{(await client.catalogue()).by_word(kind).qualified}/{name} scaled to {replicas}"

        await _Report().of_all(one(kind, name) for kind, name in _named(words))


async def wait(
    *words: str,
    for_: Annotated[str, Parameter(name="--for")],
    timeout: str = "30s",
    selector: Selector = "",
    all: bool = False,
    session: Session = Session(),  # noqa: B008
) -> None:
    """Wait until objects are as they should be.

    Examples: `choregos wait agentcluster/support --for=condition=Ready --timeout=60s`,
    `choregos wait agent web-0 --for=delete`, `choregos wait agent/web-0 --for=jsonpath={.status.phase}=Running`.

    Parameters
    ----------
    words
        KIND NAME …, or KIND/NAME …; KIND alone together with --selector or --all.
    for_
        condition=NAME, condition=NAME=STATUS, delete, create, or jsonpath={.PATH}=VALUE.
    timeout
        How long: `30s`, `5m`.
    selector
        Those with these labels.
    all
        All of the kind in the namespace.
    """
    limit_s = parse_duration(timeout)
    async with session.connect() as client:
        which = await _select(client, words, session, selector, all)
        if not which:
            raise NotFound(f"there are no {words[0]} to wait for")

        async def one(kind: str, name: str, namespace: str | None) -> str:
            await client.wait(kind, name, for_, timeout_s=limit_s, namespace=namespace)
            resource = (await client.catalogue()).by_word(kind)
            return f"{resource.qualified}/{name} {'deleted' if for_ == 'delete' else 'condition met'}"

        await _Report().of_all(one(*address) for address in which)


Address = tuple[str, str, str | None]
"""Kind, name, namespace (None: the default one)."""


class _Report:
    """Prints what each piece of work comes to; one that fails does not hide the others."""

    def __init__(self) -> None:
        self._first: ChoregosError | None = None

    async def of(self, work: Awaitable[str]) -> None:
        try:
            line = await work
        except ChoregosError as error:
            if self._first is None:
                self._first = error
            else:
                talk(f"Error: {error}")
        else:
            if line:
                show(line)

    async def of_all(self, work: Iterable[Awaitable[str]]) -> None:
        """All at once.

        Raises:
            ChoregosError: the first failure; the others have been told.
        """
        await asyncio.gather(*map(self.of, work))
        self.end()

    def end(self) -> None:
        """Raises the first failure, if there was one."""
        if self._first is not None:
            raise self._first


async def _delete_all(client: Client, which: Iterable[Address], how: Deletion) -> list[tuple[Address, str]]:
    """Asks for each to be deleted; returns those that existed, with their uids."""
    deleted: list[tuple[Address, str]] = []

    async def one(address: Address) -> str:
        kind, name, namespace = address
        try:
            uid = await client.delete(kind, name, namespace=namespace, grace_s=how.grace_period)
        except NotFound:
            if how.ignore_not_found:
                return ""
            raise
        deleted.append((address, uid))
        return f"{(await client.catalogue()).by_word(kind).qualified}/{name} deleted"

    await _Report().of_all(one(address) for address in which)
    return deleted


async def _await_gone(client: Client, deleted: Iterable[tuple[Address, str]], limit_s: float | None) -> None:
    forever_s = 365 * 86400.0
    await asyncio.gather(
        *(
            client.wait(kind, name, "delete", timeout_s=limit_s or forever_s, namespace=namespace, uid=uid)
            for (kind, name, namespace), uid in deleted
        )
    )


async def _select(client: Client, words: Sequence[str], session: Session, selector: str, all: bool) -> list[Address]:
    """What a command means: the objects named, or those of one kind that are selected."""
    targets = parse_targets(words)
    if targets[0][1]:
        if selector or all:
            raise UsageError("name objects, or select them with --selector or --all, not both")
        return [(kind, name, session.namespace) for kind, name in targets]
    if not selector and not all:
        raise UsageError(f"say which of the {words[0]}: a name, --selector or --all")
    kind = words[0]
    found = await client.list(kind, namespace=session.namespace, selector=selector)
    return [(kind, item["metadata"]["name"], item["metadata"].get("namespace")) for item in found]


def _named(words: Sequence[str]) -> list[tuple[str, str]]:
    targets = parse_targets(words)
    if not targets[0][1]:
        raise UsageError(f"say which of the {words[0]}: a name")
    return targets


async def _address(client: Client, manifest: Manifest) -> Address:
    content, catalogue = manifest.content, await client.catalogue()
    try:
        resource = catalogue.by_kind(content["apiVersion"], content["kind"])
    except Invalid as error:
        raise _placed(error, manifest) from error
    kind = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    return kind, content["metadata"]["name"], content["metadata"].get("namespace")


async def _name(client: Client, content: Object) -> str:
    resource = (await client.catalogue()).by_kind(content["apiVersion"], content["kind"])
    return f"{resource.qualified}/{content['metadata']['name']}"


def _adopt_namespace(manifests: Sequence[Manifest], session: Session) -> None:
    """`-n` is the namespace of manifests that name none, and must be that of those that do."""
    if session.namespace is None:
        return
    for manifest in manifests:
        given = manifest.content["metadata"].setdefault("namespace", session.namespace)
        if given != session.namespace:
            raise UsageError(
                f"{manifest.file}:{manifest.line}: the manifest is for namespace {given}, not {session.namespace}"
            )


def _placed(error: ChoregosError, manifest: Manifest) -> ChoregosError:
    """A refusal with the place of what is refused: of each fault, the line that it is about."""
    if isinstance(error, Temporary | CallError):
        return error  # of the server's, whatever the manifest says
    head, place = str(error).partition("\n")[0], f"{manifest.file}:{manifest.line}"
    if not isinstance(error, Invalid) or not error.causes:
        return type(error)(f"{place}: {head}")
    faults = [f"  {manifest.file}:{manifest.line_of(cause.path)}: {cause}" for cause in error.causes]
    return Invalid("\n".join([head, *faults]))
