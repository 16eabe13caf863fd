"""The only place that makes random names. Callers that must be repeatable take an `IdSource` as an argument."""

from __future__ import annotations

import random
import secrets
import uuid
from typing import Protocol

# The alphabet of Kubernetes' generated names: no vowels, so no words; no digits that look like letters.
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class IdSource(Protocol):
    def uid(self) -> str:
        """A UUID version 4 in its canonical text form."""
        ...

    def suffix(self, length: int = 5) -> str:
        """A short random name ending that fits a DNS label."""
        ...


class SystemIds:
    """Ids from the operating system's random source."""

    def uid(self) -> str:
        return str(uuid.uuid4())

    def suffix(self, length: int = 5) -> str:
        return "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(length))

    def password(self) -> str:
        """256 bits, as text that needs no quoting in a shell, a URL or a configuration file."""
        return secrets.token_urlsafe(32)


class SeededIds:
    """Repeatable ids for simulations and tests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def suffix(self, length: int = 5) -> str:
        return "".join(self._random.choice(_SUFFIX_ALPHABET) for _ in range(length))
