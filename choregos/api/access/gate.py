"""The one way in: nothing is answered, on whatever path or protocol, that has not passed `Gate.admit`.

Owns the order: known by a certificate or token, perhaps acting as somebody else, allowed by a rule, recorded.
Invariant: what was authorized is what is served: the target that comes out is the one that the rules were asked about.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from choregos.api.access import impersonation, refusals
from choregos.api.access.auditing import COMPLETE, Auditor, Trail
from choregos.api.access.authenticators import Authenticators
from choregos.api.access.grants import Grants
from choregos.api.rules import status
from choregos.api.rules.paths import Target
from choregos.api.rules.status import Refusal
from choregos.foundation.errors import ChoregosError, Temporary, Unauthenticated
from choregos.security.rbac import Attributes, User


@dataclass(frozen=True, slots=True)
class Passage:
    """A request that may go on.

    Attributes:
        user: as whom it acts.
        target: None for a path that is no resource.
    """

    user: User
    wanted: Attributes
    target: Target | None
    trail: Trail


class Gate:
    """Admits requests and WebSocket handshakes."""

    def __init__(self, authenticators: Authenticators, grants: Grants, auditor: Auditor) -> None:
        self.authenticators = authenticators
        self.grants = grants
        self._auditor = auditor

    async def admit(self, connection: HTTPConnection) -> Passage:
        """A request is refused only if what is newest in the store refuses it: whoever was given a role by one server
        is not sent away by another.

        Args:
            connection: a `Request`, or a `WebSocket` that has not been accepted.

        Raises:
            Unauthenticated: nobody known asks.
            Refusal: 403, no rule allows it; 400, the request cannot be read.
            Temporary: it is privileged and could not be recorded.
        """
        trail = self._auditor.begin(connection)
        seen = self.authenticators.resources.revision
        try:
            try:
                passage = self._admit(connection, trail)
            except (Unauthenticated, Refusal):
                if not await self._has_news(seen):
                    raise
                passage = self._admit(connection, trail)
        except ChoregosError as error:
            self.refused(trail, error)
            raise
        if trail.privileged:
            self._auditor.action(trail)
        return passage

    def _admit(self, connection: HTTPConnection, trail: Trail) -> Passage:
        try:
            user = trail.user = self.authenticators.user(connection)
        except Unauthenticated as error:
            trail.reason = str(error)
            raise Unauthenticated(f"Unauthorized: {error}") from error
        other = impersonation.wanted_user(connection.headers)
        if other is not None:
            for part in impersonation.needed(other):
                trail.wanted = part
                self.require(user, part)
            user = trail.acting_as = impersonation.completed(other)
        method = refusals.WEBSOCKET if connection.scope["type"] == "websocket" else connection.scope["method"]
        wanted, target = refusals.attributes(method, connection.scope["path"], connection.query_params)
        trail.wanted = wanted
        trail.reason = self.require(user, wanted)
        return Passage(user, wanted, target, trail)

    async def _has_news(self, seen: int) -> bool:
        """Whether the store has changed since revision `seen`."""
        resources = self.authenticators.resources
        try:
            await resources.catch_up()
        except Temporary:
            return False
        return resources.revision != seen

    def require(self, user: User, wanted: Attributes) -> str:
        """Why it is allowed. Raises: Refusal 403, if it is not."""
        decision = self.grants.decide(user, wanted)
        if not decision.allowed:
            raise refusals.forbidden(user, wanted)
        return decision.reason

    def refused(self, trail: Trail, error: ChoregosError) -> None:
        """Records that a request was answered with this error."""
        failure = status.failure(error, status.Subject())
        self._auditor.ended(trail, failure.code, message=str(error))

    def answered(self, passage: Passage, code: int, *, stage: str = COMPLETE, message: str = "") -> None:
        """Records what became of a request that was admitted, if that is recorded at all.

        Args:
            stage: `ResponseStarted` for an answer that is still being written.
            message: why it was not done.
        """
        self._auditor.ended(passage.trail, code, stage=stage, message=message)

    def close(self) -> None:
        self.grants.close()
