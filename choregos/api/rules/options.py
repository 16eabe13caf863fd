"""Query parameters and DeleteOptions as values. Pure; every bad one is refused with its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choregos.api.rules.status import Refusal, bad_request
from choregos.foundation.errors import FieldError
from choregos.foundation.timestamp import parse_rfc3339

PROPAGATION_POLICIES = ("Background", "Foreground", "Orphan")

MANAGER_BYTES_MAX = 128
"""Longest name of a field manager, as in Kubernetes."""


@dataclass(frozen=True, slots=True)
class ListOptions:
    """`metav1.ListOptions`.

    Attributes:
        limit: most items in one answer; 0 means all.
        token: the `continue` parameter.
        revision: `resourceVersion`; None if it was not given.
        match: `resourceVersionMatch`: empty, `Exact` or `NotOlderThan`.
        timeout_s: how long a watch lasts; None: until the server's own limit.
    """

    limit: int = 0
    token: str = ""
    revision: int | None = None
    match: str = ""
    label_selector: str = ""
    field_selector: str = ""
    timeout_s: float | None = None
    bookmarks: bool = False
    initial_events: bool | None = None


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of create, update and patch.

    Attributes:
        field_validation: `Strict`, `Warn` or `Ignore`.
        field_manager: who writes; empty if nothing was said.
        force: of an application: take what others own; None if nothing was said.
    """

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = ""
    force: bool | None = None


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """`metav1.DeleteOptions`; the preconditions are empty when there are none.

    Attributes:
        propagation: one of `PROPAGATION_POLICIES`; empty if nothing was said: what an earlier deletion said stands.
    """

    dry_run: bool = False
    grace_s: int | None = None
    propagation: str = ""
    uid: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`v1.PodLogOptions`; None means no bound.

    Attributes:
        since_s: only lines of the last so many seconds. since_ms: only those of this wall clock or later. One at most.
        limit_bytes: the text ends after so many.
        container: empty for the only one.
    """

    tail_lines: int | None
    since_s: int | None
    since_ms: int | None
    follow: bool
    timestamps: bool
    previous: bool
    limit_bytes: int | None
    container: str


def log_options(query: Mapping[str, str]) -> LogOptions:
    """Raises: Refusal 400 for a value of the wrong form, 422 for two beginnings."""
    since, text = _integer(query, "sinceSeconds"), query.get("sinceTime")
    if since is not None and text:
        raise _forbidden("sinceTime", "at most one of `sinceTime` or `sinceSeconds` may be specified")
    try:
        since_ms = parse_rfc3339(text) if text else None
    except ValueError as error:
        raise bad_request(f"sinceTime must be a time such as 2026-11-22T18:59:07Z: {error}") from error
    return LogOptions(
        tail_lines=_integer(query, "tailLines"),
        since_s=since,
        since_ms=since_ms,
        follow=_boolean(query, "follow") is True,
        timestamps=_boolean(query, "timestamps") is True,
        previous=_boolean(query, "previous") is True,
        limit_bytes=_integer(query, "limitBytes"),
        container=query.get("container", ""),
    )


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """`v1.PodExecOptions`; `container` is empty for the only one."""

    arguments: tuple[str, ...]
    container: str
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def command_options(query: Mapping[str, str], arguments: Sequence[str]) -> CommandOptions:
    """
    Args:
        arguments: every value of the parameter `command`.

    Raises: Refusal 400, there is no command, or nothing to connect it with.
    """
    if not arguments or not arguments[0]:
        raise bad_request("you must specify at least 1 command for the exec")
    stdin = _boolean(query, "stdin") is True
    stdout = _boolean(query, "stdout") is not False
    stderr = _boolean(query, "stderr") is not False
    if not (stdin or stdout or stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    container = query.get("container", "")
    return CommandOptions(tuple(arguments), container, stdin, stdout, stderr, _boolean(query, "tty") is True)


PORTS_MAX = 16


def forwarded_ports(values: Sequence[str]) -> tuple[int, ...]:
    """`v1.PodPortForwardOptions`: each value is a port, or several with commas.

    Raises: Refusal 400, they are none, or no ports.
    """
    words = [word.strip() for value in values for word in value.split(",")]
    if not words:
        raise bad_request("query parameter 'ports' is required")
    if len(words) > PORTS_MAX:
        raise bad_request(f"at most {PORTS_MAX} ports can be forwarded over one connection")
    ports = tuple(int(word) if word.isascii() and word.isdigit() and len(word) < 6 else 0 for word in words)
    for word, port in zip(words, ports, strict=True):
        if not 0 < port <= 0xFFFF:
            raise bad_request(f"port {word!r} must be a number from 1 to 65535")
    return ports


def is_watch(query: Mapping[str, str]) -> bool:
    return _boolean(query, "watch") is True


def list_options(query: Mapping[str, str]) -> ListOptions:
    """Raises: Refusal 400 for a value of the wrong form, 422 for combinations that make no sense."""
    revision = query.get("resourceVersion") or None
    match = query.get("resourceVersionMatch", "")
    timeout = _integer(query, "timeoutSeconds")
    options = ListOptions(
        limit=_integer(query, "limit") or 0,
        token=query.get("continue", ""),
        revision=None if revision is None else parse_revision(revision),
        match=match,
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        timeout_s=None if timeout is None else float(timeout),
        bookmarks=_boolean(query, "allowWatchBookmarks") is True,
        initial_events=_boolean(query, "sendInitialEvents"),
    )
    _check_match(options, watch=is_watch(query))
    return options


def _check_match(options: ListOptions, *, watch: bool) -> None:
    if options.match not in ("", "Exact", "NotOlderThan"):
        raise _forbidden("resourceVersionMatch", 'supported values: "Exact", "NotOlderThan"')
    if watch:
        if options.initial_events is None and options.match:
            raise _forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for watch")
        if options.initial_events is not None and options.match != "NotOlderThan":
            raise _forbidden("resourceVersionMatch", "sendInitialEvents requires resourceVersionMatch=NotOlderThan")
        if options.initial_events and not options.bookmarks:
            raise _forbidden("allowWatchBookmarks", "sendInitialEvents requires allowWatchBookmarks=true")
        return
    if options.initial_events is not None:
        raise _forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if options.match and options.revision is None:
        raise _forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
    if options.match == "Exact" and options.revision == 0:
        raise _forbidden("resourceVersionMatch", 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
    if options.token and options.revision:
        raise bad_request("specifying resource version is not allowed when using continue")


def write_options(query: Mapping[str, str]) -> WriteOptions:
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise _forbidden("fieldValidation", 'supported values: "Ignore", "Strict", "Warn"')
    manager = query.get("fieldManager", "")
    if len(manager.encode()) > MANAGER_BYTES_MAX or not manager.isprintable():
        raise _forbidden("fieldManager", f"must be printable and have at most {MANAGER_BYTES_MAX} bytes")
    return WriteOptions(_dry_run(query.get("dryRun", "")), validation, manager, _boolean(query, "force"))


def check_patch(options: WriteOptions, *, applies: bool) -> None:
    """Raises: Refusal 422, the options do not fit the kind of patch."""
    if applies and not options.field_manager:
        cause = FieldError("fieldManager", "Required value: is required for apply patch", "FieldValueRequired")
        message = f'PatchOptions.meta.k8s.io "" is invalid: {cause}'
        raise Refusal(422, "Invalid", message, causes=(cause,))
    if not applies and options.force is not None:
        raise _forbidden("force", "may not be specified for non-apply patch")


def manager_of(options: WriteOptions, user_agent: str) -> str:
    """Who writes: as the request says, or as the client calls itself: `kubectl` of `kubectl/v1.37.1 (linux/amd64)`."""
    if options.field_manager:
        return options.field_manager
    printable = "".join(char for char in user_agent.partition("/")[0] if char.isprintable())
    return printable.encode()[:MANAGER_BYTES_MAX].decode(errors="ignore") or "unknown"


def delete_options(body: Mapping[str, Any], query: Mapping[str, str]) -> DeleteOptions:
    """DeleteOptions of the request body; the query counts where the body says nothing."""
    preconditions = body.get("preconditions") or {}
    dry_run = body.get("dryRun") or query.get("dryRun", "")
    grace = body.get("gracePeriodSeconds")
    if grace is None:
        grace = _integer(query, "gracePeriodSeconds")
    if not isinstance(preconditions, dict) or not (grace is None or (isinstance(grace, int) and grace >= 0)):
        raise bad_request("the request body is no valid DeleteOptions")
    return DeleteOptions(
        dry_run=_dry_run(dry_run[0] if isinstance(dry_run, list) else dry_run),
        grace_s=grace,
        propagation=_propagation(body, query),
        uid=str(preconditions.get("uid") or ""),
        revision=str(preconditions.get("resourceVersion") or ""),
    )


def _propagation(body: Mapping[str, Any], query: Mapping[str, str]) -> str:
    policy = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
    if policy and policy not in PROPAGATION_POLICIES:
        raise _forbidden("propagationPolicy", 'supported values: "Background", "Foreground", "Orphan"')
    orphan = body.get("orphanDependents")
    if orphan is None:
        orphan = _boolean(query, "orphanDependents")
    if orphan is None:
        return str(policy)
    if policy:
        raise _forbidden("propagationPolicy", "orphanDependents and propagationPolicy cannot be both set")
    return "Orphan" if orphan is True else "Background"


def parse_revision(text: str) -> int:
    """A resourceVersion as the number it is; Raises Refusal 400 for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise bad_request(f"invalid resource version: {text!r} is no number")
    return int(text)


def _dry_run(value: Any) -> bool:
    if value in ("", None):
        return False
    if value != "All":
        raise _forbidden("dryRun", 'supported values: "All"')
    return True


def _boolean(query: Mapping[str, str], name: str) -> bool | None:
    text = query.get(name)
    if text is None:
        return None
    # An empty value means true, as in `?watch`.
    if text in ("", "1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise bad_request(f"{name} must be true or false, not {text!r}")


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise bad_request(f"{name} must be a whole number that is not negative, not {text!r}")
    return int(text)


def _forbidden(field: str, message: str) -> Refusal:
    return Refusal(422, "Invalid", f"{field}: {message}", causes=(FieldError(field, message, "FieldValueForbidden"),))
