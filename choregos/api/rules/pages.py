"""Lists in chunks: sorted snapshots, the pages cut from them, and the `continue` token that names the next page. Pure.

A snapshot is what a collection held at one revision, sorted by namespace and name; it is made once per revision
and shared by all pages and all clients. A client that continues reads on from the same snapshot, so that its chunks
add up to the state at one moment. When the snapshot is no longer held the client is told so (410), together with a
token that continues from the present state instead, as Kubernetes does.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from choregos.api.rules.status import Refusal, bad_request

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """`items[i]` has the key `keys[i]`; keys rise strictly."""

    revision: int
    keys: Sequence[Key]
    items: Sequence[T]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A chunk of a snapshot.

    Attributes:
        token: continues after it; empty if this is the last.
        remaining: items that follow; None when a selector makes that unknown.
    """

    items: Sequence[T]
    revision: int
    token: str
    remaining: int | None


class Token(msgspec.Struct, array_like=True, frozen=True):
    """Attributes:
    revision: of the snapshot; 0: whatever is present.
    after: key of the last item that was handed out.
    """

    revision: int
    after: Key


def encode_token(token: Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).rstrip(b"=").decode()


def decode_token(text: str) -> Token:
    """Raises: Refusal 400 for text that no `encode_token` made."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Token)
    except (msgspec.DecodeError, ValueError) as error:
        raise bad_request("continue key is not valid") from error


def cut(
    source: Snapshot[T],
    limit: int,
    after: Key | None,
    matches: Callable[[T], bool] | None,
    *,
    consistent: bool = True,
    at_once: int = 1,
) -> Generator[None, None, Page[T]]:
    """Returns in the end the page of at most `limit` items (0: no limit) that match and follow the key `after`.

    Args:
        consistent: the token shall demand this very snapshot.
        at_once: of how many items it asks whether they match, before it yields.
    """
    start = bisect_right(source.keys, after) if after is not None else 0
    total = len(source.keys)
    if matches is None:
        end = min(total, start + limit) if limit else total
        items = source.items[start:end]
    else:
        chosen: list[int] = []
        # One more than fits, if there is one: else this is the last page.
        for position in range(start, total):
            if position > start and (position - start) % at_once == 0:
                yield
            if matches(source.items[position]):
                chosen.append(position)
                if limit and len(chosen) > limit:
                    break
        end = chosen[limit - 1] + 1 if limit and len(chosen) > limit else total
        items = [source.items[position] for position in (chosen[:limit] if limit else chosen)]
    if end >= total:
        return Page(items, source.revision, "", None)
    token = encode_token(Token(source.revision if consistent else 0, source.keys[end - 1]))
    return Page(items, source.revision, token, total - end if matches is None else None)


def expired(token: Token) -> Refusal:
    """The answer to a token whose snapshot is gone."""
    return Refusal(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        metadata={"continue": encode_token(Token(0, token.after))},
    )


class Snapshots(Generic[T]):
    """The last few snapshots of one kind, made at most once per log, namespace and revision; the least recently used
    go.

    Attributes:
        size_max: how many are kept. A snapshot holds references, 16 bytes an item, and keeps replaced objects alive.
    """

    def __init__(self, size_max: int = 8) -> None:
        self.size_max = size_max
        self._held: OrderedDict[tuple[int, str, int], Snapshot[T]] = OrderedDict()

    def at(self, log: int, namespace: str, revision: int, make: Callable[[], Snapshot[T]]) -> Snapshot[T]:
        """The snapshot of a namespace (empty: of all) at a revision of a log."""
        key = log, namespace, revision
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = make()
            if len(self._held) > self.size_max:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return found
