"""What is kept of requests: refusals and every privileged action, as `audit.k8s.io/v1` Events of level Metadata.

Privileged are: acting as somebody else, tokens, whatever is done to roles, bindings and secrets, and running something
in an agent. Invariants: such an action is not begun unless it has been recorded; a refusal stands even if it could not
be. No event holds what a request or its answer carried. Of refusals that repeat, some stand for all (`access.repeats`).
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection

from choregos.api.access.repeats import Repeats
from choregos.api.fairness import flow_of
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary
from choregos.foundation.ids import IdSource
from choregos.foundation.timestamp import rfc3339_micro
from choregos.resources.kinds.rbac.role import GROUP
from choregos.security.audit import AuditLog
from choregos.security.pki import ADMINISTRATORS
from choregos.security.rbac import Attributes, User

log = logging.getLogger(__name__)

RECEIVED, STARTED, COMPLETE = "RequestReceived", "ResponseStarted", "ResponseComplete"
REFUSED = (401, 403)
TEXT_MAX = 1024
"""Characters of anything that a client may choose."""

_READING = frozenset({"get", "list", "watch"})
_RUNNING = frozenset({"exec", "attach", "portforward"})


def is_privileged(wanted: Attributes) -> bool:
    """Whether it is recorded though it is allowed."""
    if wanted.group == GROUP:
        return wanted.verb not in _READING
    if wanted.group == "" and wanted.resource == "secrets":
        return True
    return wanted.subresource in _RUNNING or (wanted.resource, wanted.subresource) == ("serviceaccounts", "token")


@dataclass(slots=True)
class Trail:
    """What is known of one request so far."""

    id: str
    received_ms: int
    uri: str
    source: str
    user_agent: str
    user: User | None = None
    acting_as: User | None = None
    wanted: Attributes | None = None
    reason: str = ""
    begun: bool = False  # it is privileged, and its beginning has been recorded

    @property
    def who(self) -> str:
        """Whom its refusal is counted to."""
        return flow_of(self.user.name) if self.user is not None else self.source

    @property
    def needs_no_leave(self) -> bool:
        """Whether whoever asks, and acts, may do everything whatever is stored."""
        who = (self.user, self.acting_as or self.user)
        return all(user is not None and ADMINISTRATORS in user.groups for user in who)

    @property
    def privileged(self) -> bool:
        return self.acting_as is not None or (self.wanted is not None and is_privileged(self.wanted))


class Auditor:
    """Records the requests of one server."""

    def __init__(self, sink: AuditLog, clock: Clock, ids: IdSource) -> None:
        self._sink = sink
        self._clock = clock
        self._ids = ids
        self._repeats = Repeats(clock)

    def begin(self, connection: HTTPConnection) -> Trail:
        path = str(connection.scope["path"])
        query = connection.scope.get("query_string", b"").decode("ascii", "backslashreplace")
        return Trail(
            id=self._ids.uid(),
            received_ms=self._clock.wall_ms(),
            uri=_cut(f"{path}?{query}" if query else path),
            source=connection.client.host if connection.client is not None else "",
            user_agent=_cut(connection.headers.get("user-agent", "")),
        )

    def action(self, trail: Trail) -> None:
        """A privileged action is about to begin.

        Raises:
            Temporary: it could not be recorded, so it must not.
        """
        self._sink.write(self._event(trail, RECEIVED, None))
        trail.begun = True

    def ended(self, trail: Trail, code: int, *, stage: str = COMPLETE, message: str = "") -> None:
        """A request has been answered; records it if it was refused or privileged."""
        refused = code in REFUSED
        if not trail.privileged and not refused:
            return
        annotations = self._repeats.note(trail.who, _what(trail, code)) if refused and not trail.begun else {}
        if annotations is None:
            return
        # Why something else failed may quote what was sent; why it was refused does not.
        event = self._event(trail, stage, _status(code, message if refused else ""))
        event["annotations"] |= annotations
        try:
            self._sink.write(event)
        except Temporary:
            log.exception("the answer %d to request %s could not be recorded", code, trail.id)

    def _event(self, trail: Trail, stage: str, status: Mapping[str, Any] | None) -> dict[str, Any]:
        wanted = trail.wanted
        refused = status is not None and status["code"] in REFUSED
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": trail.id,
            "stage": stage,
            "requestURI": trail.uri,
            "verb": wanted.verb if wanted is not None else "",
            "user": trail.user.info() if trail.user is not None else {},
            "sourceIPs": [trail.source],
            "userAgent": trail.user_agent,
            "requestReceivedTimestamp": rfc3339_micro(trail.received_ms),
            "stageTimestamp": rfc3339_micro(self._clock.wall_ms()),
            "annotations": {
                "authorization.k8s.io/decision": "forbid" if refused else "allow",
                "authorization.k8s.io/reason": trail.reason,
            },
        }
        if trail.acting_as is not None:
            event["impersonatedUser"] = trail.acting_as.info()
        if wanted is not None and not wanted.path:
            event["objectRef"] = _reference(wanted)
        if status is not None:
            event["responseStatus"] = status
        return event


def _what(trail: Trail, code: int) -> Hashable:
    """What two refusals have in common that are the same."""
    acting_as = trail.acting_as.name if trail.acting_as is not None else ""
    return code, acting_as, trail.wanted or trail.uri.partition("?")[0]


def _status(code: int, message: str) -> dict[str, Any]:
    status: dict[str, Any] = {"metadata": {}, "code": code}
    if message:
        status |= {"status": "Failure", "message": _cut(message)}
    return status


def _reference(wanted: Attributes) -> dict[str, str]:
    parts = {
        "resource": wanted.resource,
        "namespace": wanted.namespace,
        "name": wanted.name,
        "apiGroup": wanted.group,
        "apiVersion": wanted.version,
        "subresource": wanted.subresource,
    }
    return {key: _cut(value) for key, value in parts.items() if value}


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
