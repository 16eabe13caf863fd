"""Watches: one JSON line per change, from a given revision on, through selectors, until the time is up.

Invariants: what a client has been sent, in order, takes it from the state at its revision to the state at the last
bookmark; a client too slow for that is told with an `ERROR` event (410) to list again. A watch costs no task besides
its connection, and ends at once when the server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from starlette.responses import Response

from choregos.api.handlers.reading import encode_part, read_state
from choregos.api.requests import ApiRequest
from choregos.api.rules import codec, status
from choregos.api.rules.options import ListOptions, list_options
from choregos.api.rules.views import View, transition
from choregos.api.selection import Selection, select
from choregos.api.sources import Event
from choregos.foundation.errors import ChoregosError
from choregos.store.watch import Watch


async def watch(call: ApiRequest) -> Response:
    options = list_options(call.query)
    selection = select(call, options)
    lines = _Lines(call, options, selection, call.view)
    response = call.streams.answer(call.flow, lines.chunks(), codec.JSON, call.seat)
    if call.seat is not None and shows_state(options):
        call.seat.keep()
    return response


def shows_state(options: ListOptions) -> bool:
    """Whether the watch begins with what is there."""
    return options.revision in (None, 0) if options.initial_events is None else options.initial_events


class _Lines:
    """The lines of one watch."""

    def __init__(self, call: ApiRequest, options: ListOptions, selection: Selection, view: View) -> None:
        self._call = call
        self._options = options
        self._selection = selection
        self._view = view
        self._first = True

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises nothing: an error ends the stream with an `ERROR` event."""
        source = self._call.reading()
        initial = shows_state(self._options)
        try:
            if initial:
                await self._take_seat()
            # From here until the state is read nothing waits, so it and the watch fit together.
            since = source.revision if initial or self._options.revision is None else self._options.revision
            async with source.watch(self._call.target.namespace, since) as changes:
                items = await read_state(self._call, self._selection) if initial else ()
                async for part in self._initial(items):
                    yield part
                if self._options.initial_events:
                    yield _line(self._view.bookmark(since, initial_end=True))
                async for chunk in self._follow(changes):
                    yield chunk
        except ChoregosError as error:
            failure = status.failure(error, self._call.subject)
            yield _line({"type": "ERROR", "object": failure.body})

    async def _initial(self, items: Sequence[Any]) -> AsyncIterator[bytes]:
        """The present state, a part at a time with others' requests in between; leaves the seat when it is sent."""
        shown = 0
        while shown < len(items):
            if shown:
                await asyncio.sleep(0)
            await self._take_seat()
            lines = await self._call.decider.decide(partial(encode_part, items, shown, self._added))
            shown += len(lines)
            yield b"".join(lines)
        if self._call.seat is not None:
            self._call.seat.leave()

    async def _take_seat(self) -> None:
        """Again, if the client has had the watch wait. Raises: Refusal 429, it is not given one."""
        if self._call.seat is not None:
            await self._call.seat.take()

    async def _follow(self, changes: Watch[Any]) -> AsyncIterator[bytes]:
        clock, limits = self._call.context.clock, self._call.context.limits
        streams = self._call.streams
        now = clock.monotonic()
        ends_at = now + min(self._options.timeout_s or limits.watch_s_max, limits.watch_s_max)
        bookmark_at = now + limits.bookmark_s
        while now < ends_at and not streams.closing:
            due_at = min(ends_at, bookmark_at)
            with streams.alarm(changes.wake, due_at - now) as alarm:
                while not alarm.rung and now < due_at:
                    async for part in self._changed(await changes.ready()):
                        yield part
                    now = clock.monotonic()
            # By the clock, not in silence: beside constant changes of what it does not select, a watch that got none
            # would have to list again each time it reconnects.
            if now >= due_at and not streams.closing:
                bookmark_at = now + limits.bookmark_s
                if self._options.bookmarks:
                    yield _line(self._view.bookmark(changes.revision))

    async def _changed(self, changes: Sequence[Any]) -> AsyncIterator[bytes]:
        """What is to be seen of these changes, a part at a time with others' requests in between."""
        done = 0
        while done < len(changes):
            if done:
                await asyncio.sleep(0)
            lines = encode_part(changes, done, self._line_of)
            done += len(lines)
            if part := b"".join(lines):
                yield part

    def _added(self, item: Any) -> bytes:
        document = self._call.reading().document(item)
        return self._show("ADDED", document, int(document["metadata"]["resourceVersion"]))

    def _line_of(self, change: Any) -> bytes:
        source = self._call.reading()
        event: Event[Any] = source.event(change)
        matches = self._selection.matches
        shown: str | None = event.type
        if matches is not None:
            matched = event.previous is not None and matches(event.previous)
            shown = transition(event.type, matched=matched, matches=matches(event.item))
        return b"" if shown is None else self._show(shown, source.document(event.item), event.revision)

    def _show(self, type: str, document: Any, revision: int) -> bytes:
        first, self._first = self._first, False
        return _line(self._view.event(type, document, revision, self._call.context.clock.wall_ms(), first=first))


def _line(event: Any) -> bytes:
    return codec.encode(event) + b"\n"
