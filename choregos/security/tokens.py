"""Tokens of service accounts: short-lived, for named audiences, signed with a key of this machine.

Owns the key (`tokens.key`, made at first start, for its owner only) and the form of the tokens: JWTs with the claims
of Kubernetes, signed with Ed25519 (RFC 8037, RFC 9864). Invariant: `check` accepts only what `issue` of the same key
has made, for one of the audiences asked for, in its time. It does not know whether the account still exists: the claims
say its uid, and whoever asks compares.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from choregos.foundation.clock import Clock
from choregos.foundation.errors import Permanent, Unauthenticated
from choregos.foundation.files import PRIVATE_FILE, private_directory, write_atomic
from choregos.foundation.ids import IdSource
from choregos.security.rbac import User, account_groups, account_user

log = logging.getLogger(__name__)

ISSUER = "https://choregos"
"""Who issues, and the audience of the API server: a name that its certificate is valid for."""

LIFE_S_MAX = 24 * 3600
"""Longest life of a token: one that leaks is good for so long, unless its account is deleted."""

SKEW_S = 30
"""Clocks of machines may differ by so much."""

TOKEN_BYTES_MAX = 8 * 1024

_ALGORITHM = "Ed25519"
_CHECKED_MAX = 1024
_CLAIMS = "kubernetes.io"
_CREDENTIAL = "authentication.kubernetes.io/credential-id"


@dataclass(frozen=True, slots=True)
class Bound:
    """An object by name and uid, with which a token ends."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Attributes:
        audiences: for whom it is.
        expires_s, not_before_s: seconds since the epoch.
        secret: a Secret of the namespace that it is bound to as well; None if to none.
    """

    namespace: str
    account: Bound
    audiences: tuple[str, ...]
    not_before_s: int
    expires_s: int
    id: str
    secret: Bound | None = None

    @property
    def user(self) -> User:
        return User(
            account_user(self.namespace, self.account.name),
            account_groups(self.namespace),
            self.account.uid,
            {_CREDENTIAL: (f"JTI={self.id}",)},
        )


class Tokens:
    """Issues and checks the tokens of one key."""

    def __init__(self, key: OKPKey, clock: Clock, ids: IdSource) -> None:
        self._key = key
        self._key_id = key.thumbprint()
        self._clock = clock
        self._ids = ids
        # A signature stays right or wrong for ever; time and audience are asked each time.
        self._signed = lru_cache(maxsize=_CHECKED_MAX)(self._verify)

    @classmethod
    def open(cls, directory: Path, clock: Clock, ids: IdSource) -> Tokens:
        """With the key in `directory`, which is made if there is none.

        Raises:
            Permanent: the key's file is damaged; the message says what to do.
        """
        path = directory / "tokens.key"
        if not path.exists():
            private_directory(directory)
            made = Ed25519PrivateKey.generate()
            write_atomic(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        try:
            key = OKPKey.import_key(path.read_bytes())
            if key.curve_name != "Ed25519" or not key.is_private:
                raise ValueError("it is no private key for Ed25519")  # noqa: TRY301 one remedy for all that is wrong
        except (OSError, ValueError, TypeError, JoseError, UnsupportedAlgorithm) as error:
            raise Permanent(
                f"the key of tokens {path} cannot be read: {error}. Restore it from a backup; or remove the file, and "
                "a new one is made: tokens handed out earlier stop working then."
            ) from error
        if path.stat().st_mode & 0o077:
            log.warning("%s was readable by others; now it is for its owner only", path)
            path.chmod(PRIVATE_FILE)
        return cls(key, clock, ids)

    def issue(
        self, namespace: str, account: Bound, *, life_s: int, audiences: Sequence[str] = (), secret: Bound | None = None
    ) -> tuple[str, Claims]:
        """A token and what it says.

        Args:
            life_s: how long it shall be valid, at most `LIFE_S_MAX`.
            audiences: for whom it is; empty: for the API server.
        """
        now_s = self._clock.wall_ms() // 1000
        claims = Claims(
            namespace=namespace,
            account=account,
            audiences=tuple(audiences) or (ISSUER,),
            not_before_s=now_s,
            expires_s=now_s + min(life_s, LIFE_S_MAX),
            id=self._ids.uid(),
            secret=secret,
        )
        header = {"alg": _ALGORITHM, "kid": self._key_id}
        return jwt.encode(header, _document(claims), self._key, algorithms=[_ALGORITHM]), claims

    def check(self, token: str, audiences: Sequence[str] = (ISSUER,)) -> Claims:
        """What a valid token says.

        Raises:
            Unauthenticated: it is none, not ours, for nobody in `audiences`, not valid yet or not any more.
        """
        if len(token) > TOKEN_BYTES_MAX:
            raise Unauthenticated("the token is too long")
        claims = self._signed(token)
        now_s = self._clock.wall_ms() / 1000
        if not set(audiences) & set(claims.audiences):
            raise Unauthenticated(f"the token is not for {', '.join(audiences)}")
        if now_s >= claims.expires_s + SKEW_S:
            raise Unauthenticated("the token has expired")
        if now_s < claims.not_before_s - SKEW_S:
            raise Unauthenticated("the token is not valid yet; do the clocks differ?")
        return claims

    def _verify(self, token: str) -> Claims:
        try:
            decoded = jwt.decode(token, self._key, algorithms=[_ALGORITHM], registry=_REGISTRY)
            return _claims(decoded.claims)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Unauthenticated("the token is not one of this server") from error


_REGISTRY = JWSRegistry(algorithms=[_ALGORITHM])


def _document(claims: Claims) -> dict[str, Any]:
    bound: dict[str, Any] = {
        "namespace": claims.namespace,
        "serviceaccount": {"name": claims.account.name, "uid": claims.account.uid},
    }
    if claims.secret is not None:
        bound["secret"] = {"name": claims.secret.name, "uid": claims.secret.uid}
    return {
        "iss": ISSUER,
        "sub": account_user(claims.namespace, claims.account.name),
        "aud": list(claims.audiences),
        "iat": claims.not_before_s,
        "nbf": claims.not_before_s,
        "exp": claims.expires_s,
        "jti": claims.id,
        _CLAIMS: bound,
    }


def _claims(document: dict[str, Any]) -> Claims:
    """
    Raises:
        KeyError, TypeError, ValueError: it is not what `_document` makes.
    """
    bound = document[_CLAIMS]
    claims = Claims(
        namespace=str(bound["namespace"]),
        account=_bound(bound["serviceaccount"]),
        audiences=tuple(map(str, document["aud"])),
        not_before_s=int(document["nbf"]),
        expires_s=int(document["exp"]),
        id=str(document["jti"]),
        secret=_bound(bound["secret"]) if "secret" in bound else None,
    )
    if _document(claims) != document:
        raise ValueError("it says something else than tokens do")
    return claims


def _bound(document: dict[str, Any]) -> Bound:
    return Bound(str(document["name"]), str(document["uid"]))
