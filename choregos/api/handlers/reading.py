"""GET of one object and of collections, in chunks and through selectors. Nothing here writes."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import pages
from choregos.api.rules.options import ListOptions, list_options
from choregos.api.rules.pages import Page, Snapshot
from choregos.api.rules.status import Refusal
from choregos.api.selection import Selection, select
from choregos.api.sources import AnySource
from choregos.foundation.errors import Expired, FieldError, NotFound, Temporary


async def get(call: ApiRequest) -> Response:
    source = call.reading()
    options = list_options(call.query)
    await wait_for_revision(call, options.revision)
    document = source.document(source.get(call.target.namespace, call.name))
    return answer(call.view.one(document, call.context.clock.wall_ms()))


async def list_(call: ApiRequest) -> Response:
    options = list_options(call.query)
    await wait_for_revision(call, options.revision)
    page = read_page(call, options, select(call, options))
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
    if page.token:
        metadata["continue"] = page.token
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    documents = map(call.reading().document, page.items)
    return answer(call.view.many(documents, metadata, call.context.clock.wall_ms()))


def read_page(call: ApiRequest, options: ListOptions, selection: Selection) -> Page[Any]:
    """The items that one list request shows.

    Raises:
        Refusal: 410, the snapshot that a continue token or an exact revision asks for is no longer held.
    """
    source, namespace = call.reading(), call.target.namespace
    if options.token:
        token = pages.decode_token(options.token)
        if token.revision:
            held = source.snapshot_of(namespace, token.revision)
            if held is None:
                raise pages.expired(token)
            return pages.cut(held, options.limit, token.after, selection.matches)
        return pages.cut(source.snapshot(namespace), options.limit, token.after, selection.matches, consistent=False)
    return pages.cut(_snapshot(call, options, selection), options.limit, None, selection.matches)


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
    """Returns once this server has seen `revision`.

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
