"""The one way in: nothing is answered, on whatever path or protocol, that has not passed `Gate.admit`.

Owns the order: known by a certificate or token, perhaps acting as somebody else, allowed by a rule, recorded.
Invariant: what was authorized is what is served: the target that comes out is the one that the rules were asked about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.requests import HTTPConnection

from choregos.api.access import impersonation, refusals
from choregos.api.access.auditing import COMPLETE, Auditor, Trail
from choregos.api.access.authenticators import Authenticators, Unbound
from choregos.api.access.grants import Grants
from choregos.api.access.pace import RefusalPace
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
        caught_up: the stored resources are here as they were when it came, or newer.
    """

    user: User
    wanted: Attributes
    target: Target | None
    trail: Trail
    caught_up: bool = False


class Gate:
    """Admits requests and WebSocket handshakes."""

    def __init__(self, authenticators: Authenticators, grants: Grants, auditor: Auditor, pace: RefusalPace) -> None:
        self.authenticators = authenticators
        self.grants = grants
        self._auditor = auditor
        self._pace = pace

    async def admit(self, connection: HTTPConnection) -> Passage:
        """Judges by what is newest in the store: what one server has given or taken is so at every other. Documents,
        which are the same for all, are given by what this server knows; who shows nothing valid asks nobody.

        Args:
            connection: a `Request`, or a `WebSocket` that has not been accepted.

        Raises:
            Unauthenticated: nobody known asks.
            Refusal: 403, no rule allows it; 400, the request cannot be read; 429, it is refused too often.
            Temporary: it is privileged and could not be recorded; or the store cannot be reached, so that nobody knows
                whether it is still allowed.
        """
        trail = self._auditor.begin(connection)
        try:
            passage = await self._judge(connection, trail)
        except ChoregosError as error:
            if isinstance(error, (Unauthenticated, Refusal)):
                await self._slow_down(trail)
            self.refused(trail, error)
            raise
        if trail.privileged:
            self._auditor.action(trail)
        return passage

    async def _slow_down(self, trail: Trail) -> None:
        """Raises: Refusal 429, as `RefusalPace.turn`."""
        try:
            await self._pace.turn(trail.who)
        except Refusal as error:
            self._auditor.too_often(trail, error.code, str(error))
            raise

    async def _judge(self, connection: HTTPConnection, trail: Trail) -> Passage:
        resources = self.authenticators.resources
        seen = resources.revision
        try:
            passage = self._admit(connection, trail)
        except (Unbound, Refusal):
            if not await self._has_news(seen):
                raise
            passage = self._admit(connection, trail)
        else:
            if passage.target is None or trail.needs_no_leave:
                return passage
            await resources.catch_up()
            if resources.revision != seen:
                passage = self._admit(connection, trail)
        return replace(passage, caught_up=True)

    async def _has_news(self, seen: int) -> bool:
        """Whether the store has changed since revision `seen`."""
        resources = self.authenticators.resources
        try:
            await resources.catch_up()
        except Temporary:
            return False
        return resources.revision != seen

    def _admit(self, connection: HTTPConnection, trail: Trail) -> Passage:
        trail.reason = ""  # it may be looked at twice
        try:
            user = trail.user = self.authenticators.user(connection)
        except Unauthenticated as error:
            trail.reason = str(error)
            raise type(error)(f"Unauthorized: {error}") from error
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
