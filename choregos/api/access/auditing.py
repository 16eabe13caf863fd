"""What is kept of requests: refusals and every privileged action, as `audit.k8s.io/v1` Events of level Metadata.

Privileged are: acting as somebody else, tokens, whatever is done to roles, bindings and secrets, and running something
in an agent. Invariants: such an action is not begun unless it has been recorded; a refusal stands even if it could not
be; refusals go to a record of their own, so that they push no action out. No event holds what a request or its answer
carried. Of refusals that are the same but for their time, some stand for all (`access.repeats`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import HTTPConnection

from choregos.api.access.repeats import REPEATED, Repeats
from choregos.api.sharing.fairness import flow_of
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary
from choregos.foundation.ids import IdSource
from choregos.foundation.timestamp import rfc3339_micro
from choregos.resources.kinds.rbac.role import GROUP
from choregos.resources.registry import by_plural
from choregos.security.audit import AuditLog
from choregos.security.pki import ADMINISTRATORS
from choregos.security.rbac import Attributes, User

log = logging.getLogger(__name__)

RECEIVED, STARTED, COMPLETE = "RequestReceived", "ResponseStarted", "ResponseComplete"
REFUSED = (401, 403)
_OWN = frozenset({"auditID", "requestReceivedTimestamp", "stageTimestamp"})
"""What no two events have in common."""

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
    """Records the requests of one server.

    Args:
        actions: where privileged actions go, with what became of them.
        refusals: where everything goes that was refused before it began.
    """

    def __init__(self, actions: AuditLog, refusals: AuditLog, clock: Clock, ids: IdSource) -> None:
        self._actions = actions
        self._refusals = refusals
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
        self._actions.write(self._event(trail, RECEIVED, None))
        trail.begun = True

    def ended(self, trail: Trail, code: int, *, stage: str = COMPLETE, message: str = "") -> None:
        """A request has been answered; records it if it was refused or privileged."""
        refused = code in REFUSED
        # Why something else failed may quote what was sent; why it was refused does not.
        status = _status(code, message if refused else "")
        if refused and not trail.begun:
            event = self._event(trail, stage, status, refused=True)
            same = msgspec.json.encode({key: value for key, value in event.items() if key not in _OWN})
            self._record_refusal(event, self._repeats.note(hashlib.blake2b(same, digest_size=16).digest()))
        elif trail.privileged:
            self._record(self._actions, self._event(trail, stage, status, refused=refused))

    def too_often(self, trail: Trail, code: int, message: str) -> None:
        """A request was not even refused, as whoever asks is refused too often. Those of one verb and kind of object
        stand as one, whatever names they give, for nothing bounds how many there are."""
        count = self._repeats.note((trail.who, code, _kind_of(trail.wanted)))
        if count is not None:
            self._record_refusal(self._event(trail, COMPLETE, _status(code, message), refused=True), count)

    def _record_refusal(self, event: dict[str, Any], count: int | None) -> None:
        if count is None:
            return
        if count > 1:
            event["annotations"][REPEATED] = str(count)
        self._record(self._refusals, event)

    def _record(self, sink: AuditLog, event: Mapping[str, Any]) -> None:
        try:
            sink.write(event)
        except Temporary:
            code = event["responseStatus"]["code"]
            log.exception("the answer %d to request %s could not be recorded", code, event["auditID"])

    def _event(
        self, trail: Trail, stage: str, status: Mapping[str, Any] | None, *, refused: bool = False
    ) -> dict[str, Any]:
        wanted = trail.wanted
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


def _kind_of(wanted: Attributes | None) -> Hashable:
    """What is wanted without anything of which a client could make up ever more."""
    if wanted is None or wanted.path:
        return ()
    kind = by_plural(wanted.group, wanted.version, wanted.resource)
    known = kind is not None and wanted.subresource in kind.subresource_names
    return wanted.verb, kind.kind if kind is not None else "", wanted.subresource if known else ""


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
