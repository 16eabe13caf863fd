"""Who is asking, and may they: the gate in front of every route.

Invariant: no handler runs before `authorize` has allowed it, and no request is answered with content, not even
`/healthz`, unless the TLS handshake has verified a client certificate of the cluster's CA. For now a member of
`system:masters` may do everything, and others may only read what is no resource: discovery, schemas, version, health
(Kubernetes' role `system:discovery`). Rules, tokens and audit will take the place of `authorize`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from choregos.api.rules.paths import Target
from choregos.api.rules.status import Refusal
from choregos.foundation.errors import Unauthenticated
from choregos.security.pki import ADMINISTRATORS

PEER = "choregos.peer_certificate"
"""Key of the ASGI scope under which the server puts the verified certificate, as `ssl.SSLSocket.getpeercert` has it."""


@dataclass(frozen=True, slots=True)
class User:
    """Attributes: name: the certificate's common name. groups: its organizations."""

    name: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a request wants to do.

    Attributes:
        verb: `get`, `list`, `watch`, …; for a path that is no resource the HTTP method in lower case.
        target: None for a path that is no resource.
    """

    verb: str
    path: str
    target: Target | None


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str = ""


def authenticate(scope: Mapping[str, Any]) -> User:
    """The user of the certificate that came with the connection.

    Raises:
        Unauthenticated: there is none, or it has no common name.
    """
    certificate = scope.get(PEER)
    if not certificate:
        raise Unauthenticated("Unauthorized")
    name, groups = "", []
    for relative_name in certificate.get("subject", ()):
        for attribute, value in relative_name:
            if attribute == "commonName":
                name = value
            elif attribute == "organizationName":
                groups.append(value)
    if not name:
        raise Unauthenticated("Unauthorized")
    return User(name, frozenset(groups))


def authorize(user: User, attributes: Attributes) -> Decision:
    """Whether `user` may do it."""
    if ADMINISTRATORS in user.groups or (attributes.target is None and attributes.verb in ("get", "head")):
        return Decision(True)
    return Decision(False, _refusal(user, attributes))


def require(user: User, attributes: Attributes) -> None:
    """Raises: Refusal 403 unless `authorize` allows it."""
    decision = authorize(user, attributes)
    if not decision.allowed:
        raise Refusal(403, "Forbidden", decision.reason)


def _refusal(user: User, attributes: Attributes) -> str:
    target = attributes.target
    if target is None:
        return f'forbidden: User "{user.name}" cannot {attributes.verb} path "{attributes.path}"'
    resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    qualified = f"{target.resource}.{target.group}" if target.group else target.resource
    name = f' "{target.name}"' if target.name else ""
    scope = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    return (
        f'{qualified}{name} is forbidden: User "{user.name}" cannot {attributes.verb} resource "{resource}" '
        f'in API group "{target.group}" {scope}'
    )
