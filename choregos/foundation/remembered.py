"""What short texts were read as, kept for the next time.

Clients choose the texts, and what they are read as takes many times their memory. So an `lru_cache` alone bounds
nothing that counts: invariant: what is kept was made of at most `entries` texts of `length_max` characters; whatever is
longer is read each time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

Read = TypeVar("Read", bound=Callable[..., Any])


def remembered(*, entries: int, length_max: int) -> Callable[[Read], Read]:
    """Decorates a pure function of a text, and perhaps of more that is hashable; its results must not be changed."""

    def decorate(read: Read) -> Read:
        kept = lru_cache(maxsize=entries)(read)

        @wraps(read)
        def reading(text: str, *more: Hashable) -> Any:
            return kept(text, *more) if len(text) <= length_max else read(text, *more)

        return cast("Read", reading)

    return decorate
