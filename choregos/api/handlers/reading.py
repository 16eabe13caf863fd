"""GET of one object and of collections, in chunks and through selectors. Nothing here writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar

from starlette.responses import Response

from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import codec, pages
from choregos.api.rules.options import ListOptions, list_options
from choregos.api.rules.pages import Page, Snapshot
from choregos.api.rules.status import Refusal
from choregos.api.selection import Selection, select
from choregos.api.sources import AnySource
from choregos.foundation.errors import Expired, FieldError, NotFound, Temporary, TooLarge

T = TypeVar("T")

ENCODED_AT_ONCE = 50
"""Elements of a list or watch that are made and encoded before somebody else has a turn: about half a millisecond. A
small request needs several turns, and in each it waits for one part of every list that is being made."""

ENCODED_BYTES_AT_ONCE = 64 * 1024
"""Of those elements, if they are large: with the one that reaches it a part ends."""

ASKED_AT_ONCE = 1_000
"""Requirements on labels that are looked at before somebody else has a turn: no longer than that."""


async def get(call: ApiRequest) -> Response:
    source = call.reading()
    document = source.document(source.get(call.target.namespace, call.name))
    return answer(call.view.one(document, call.context.clock.wall_ms()))


async def list_(call: ApiRequest) -> Response:
    options = list_options(call.query)
    page = await read_page(call, options, select(call, options))
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
    if page.token:
        metadata["continue"] = page.token
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    with call.answers.making(call.flow) as count:
        return Response(await _listing(call, page.items, metadata, count), media_type=codec.JSON)


async def _listing(
    call: ApiRequest, items: Sequence[Any], metadata: dict[str, Any], count: Callable[[int], None]
) -> bytes:
    """The list, encoded a part at a time, so that a long one keeps no other request waiting."""
    view, document, now_ms = call.view, call.reading().document, call.context.clock.wall_ms()

    def encode(item: Any) -> bytes:
        return codec.encode(view.element(document(item), now_ms))

    listing, key = view.frame(metadata)
    del listing[key]  # which comes last
    parts = [codec.encode(listing)[:-1], b',"%s":[' % key.encode()]
    done = 0
    while done < len(items):
        if done:
            parts.append(b",")
            await asyncio.sleep(0)
        elements = await call.decider.decide(partial(encode_part, items, done, encode))
        done += len(elements)
        parts.append(b",".join(elements))
        count(len(parts[-1]))
    parts.append(b"]}")
    return b"".join(parts)


def encode_part(items: Sequence[T], start: int, encode: Callable[[T], bytes]) -> list[bytes]:
    """The items from `start` on, encoded: as many as may be before somebody else has a turn."""
    part: list[bytes] = []
    length = 0
    for item in items[start : start + ENCODED_AT_ONCE]:
        part.append(encode(item))
        length += len(part[-1])
        if length >= ENCODED_BYTES_AT_ONCE:
            break
    return part


async def read_page(call: ApiRequest, options: ListOptions, selection: Selection) -> Page[Any]:
    """The items that one list request shows.

    Raises:
        Refusal: 410, the snapshot that a continue token or an exact revision asks for is no longer held; 413, there are
            too many and the request names no limit.
    """
    page = await _look_through(call, _page(call, options, selection))
    most = call.context.limits.list_items_max
    if len(page.items) > most:
        raise TooLarge(f"there are more than {most} {call.kind.plural}: ask for chunks (limit=500) or select fewer")
    return page


async def read_state(call: ApiRequest, selection: Selection) -> Sequence[Any]:
    """What a watch begins with: any number of items, for it shows them a part at a time. It is the state at the moment
    in which this is first run, however long it takes."""
    return (await _look_through(call, _page(call, ListOptions(), selection))).items


async def _look_through(call: ApiRequest, cut: Generator[None, None, Page[Any]]) -> Page[Any]:
    """The page, with others' requests in between."""

    def go_on() -> Page[Any] | None:
        try:
            return next(cut)
        except StopIteration as end:
            page: Page[Any] = end.value
            return page

    while True:
        found = await call.decider.decide(go_on)
        if found is not None:
            return found
        await asyncio.sleep(0)


def _page(call: ApiRequest, options: ListOptions, selection: Selection) -> Generator[None, None, Page[Any]]:
    source, namespace, matches = call.reading(), call.target.namespace, selection.matches
    at_once = max(1, ASKED_AT_ONCE // max(1, selection.effort))
    if options.token:
        token = pages.decode_token(options.token)
        if token.revision:
            held = source.snapshot_of(namespace, token.revision)
            if held is None:
                raise pages.expired(token)
            return pages.cut(held, options.limit, token.after, matches, at_once=at_once)
        present = source.snapshot(namespace)
        return pages.cut(present, options.limit, token.after, matches, consistent=False, at_once=at_once)
    return pages.cut(_snapshot(call, options, selection), options.limit, None, matches, at_once=at_once)


def _snapshot(call: ApiRequest, options: ListOptions, selection: Selection) -> Snapshot[Any]:
    source, namespace = call.reading(), call.target.namespace
    if selection.name and options.match != "Exact" and (namespace or not call.kind.namespaced):
        return _snapshot_of_one(source, namespace, selection.name)
    if options.match != "Exact" or options.revision == source.revision:
        return source.snapshot(namespace)
    held = source.snapshot_of(namespace, options.revision or 0)
    if held is None:
        raise Expired(f"the list as of resource version {options.revision} is no longer held")
    return held


def _snapshot_of_one(source: AnySource, namespace: str, name: str) -> Snapshot[Any]:
    """Of the one object that can match: found, where all others would have to be asked."""
    try:
        item = source.get(namespace, name)
    except NotFound:
        return Snapshot(source.revision, [], [])
    return Snapshot(source.revision, [(namespace, name)], [item])


async def wait_for_revision(call: ApiRequest, revision: int | None) -> None:
    """Returns once this server has seen `revision`, for which the server has all reads wait before they take a seat.

    Raises:
        Refusal: 504, it has not seen it in time; the client shall try again.
    """
    source = call.reading()
    if revision is None or revision <= source.revision:
        return
    try:
        await source.wait_for(revision, call.context.limits.future_revision_s)
    except Temporary as error:
        message = f"Too large resource version: {revision}, current: {source.revision}"
        cause = FieldError("", "Too large resource version", "ResourceVersionTooLarge")
        raise Refusal(504, "Timeout", message, causes=(cause,), details={"retryAfterSeconds": 1}) from error
