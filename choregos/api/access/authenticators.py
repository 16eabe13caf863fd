"""Who asks: the user of a client certificate, or of a bearer token.

Invariant: a user is known only by a certificate that the TLS handshake has verified, or by a token of this server for
this server whose account exists with the same uid. A certificate is looked at first; whoever shows both is who the
certificate says, as in Kubernetes. Nobody is anonymous.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import HTTPConnection

from choregos.foundation.errors import NotFound, Unauthenticated
from choregos.resources import meta
from choregos.security.rbac import AUTHENTICATED, User
from choregos.security.tokens import ISSUER, Bound, Tokens
from choregos.store.resources import ResourceStore

PEER = "choregos.peer_certificate"
"""Key of the ASGI scope under which the server puts the verified certificate, as `ssl.SSLSocket.getpeercert` has it."""

_BEARER_SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."
"""A WebSocket client in a browser cannot send headers; it names its token as a subprotocol, in base64url."""


class Unbound(Unauthenticated):
    """A token of ours whose account is not here. Another server may have made that a moment ago."""


@dataclass(frozen=True, slots=True)
class Authenticators:
    """Both ways to be known.

    Attributes:
        resources: where service accounts are stored.
    """

    tokens: Tokens
    resources: ResourceStore

    def user(self, connection: HTTPConnection) -> User:
        """
        Raises:
            Unbound: what is stored here does not know who it is.
            Unauthenticated: nobody that is known, whatever is stored; says why.
        """
        certificate = connection.scope.get(PEER)
        found = _certified(certificate) if certificate else self.bearer(_token(connection))
        return replace(found, groups=(*found.groups, AUTHENTICATED))

    def bearer(self, token: str, audiences: Sequence[str] = (ISSUER,)) -> User:
        """The service account of a token, without the group of everybody.

        Raises:
            Unbound: what the token is bound to is gone.
            Unauthenticated: the token is not valid.
        """
        claims = self.tokens.check(token, audiences)
        self._require("serviceaccounts", claims.namespace, claims.account)
        if claims.secret is not None:
            self._require("secrets", claims.namespace, claims.secret)
        return claims.user

    def _require(self, resource: str, namespace: str, bound: Bound) -> None:
        try:
            found = self.resources.get(resource, namespace, bound.name)
        except NotFound as error:
            raise Unbound(f"what the token is bound to is gone: {resource} {bound.name}") from error
        if found["metadata"]["uid"] != bound.uid or meta.is_deleting(found):
            raise Unbound(f"what the token is bound to is gone: {resource} {bound.name} has been made anew")


def _certified(certificate: Mapping[str, Any]) -> User:
    """Common name and organizations."""
    name, groups = "", []
    for relative_name in certificate.get("subject", ()):
        for attribute, value in relative_name:
            if attribute == "commonName":
                name = value
            elif attribute == "organizationName":
                groups.append(value)
    if not name:
        raise Unauthenticated("the certificate has no common name")
    return User(name, tuple(groups))


def _token(connection: HTTPConnection) -> str:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if connection.scope["type"] == "websocket":
        for protocol in connection.scope.get("subprotocols", ()):
            if protocol.startswith(_BEARER_SUBPROTOCOL):
                return _decoded(protocol.removeprefix(_BEARER_SUBPROTOCOL))
    raise Unauthenticated("neither a client certificate nor a token was shown")


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated("the token in the subprotocol is no base64url") from error
