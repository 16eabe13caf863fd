"""A watch survives lost connections and forgotten revisions, and never leaves its follower with a wrong picture."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from choregos.client.watching import Listing, Watch, list_all
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import ChoregosError, Denied, Expired, Temporary


class NoWait(SystemClock):
    async def sleep(self, seconds: float) -> None:
        pass


def obj(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


def page(version: int, *items: dict[str, Any], more: str = "") -> dict[str, Any]:
    return {
        "kind": "ThingList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": str(version), "continue": more},
        "items": list(items),
    }


def line(type: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": type, "object": item}).encode()


class Script:
    """A connection whose answers are written down: lists, and streams that end or break as told."""

    def __init__(self, lists: list[Any], streams: list[list[Any]]) -> None:
        self.lists = lists
        self.streams = streams
        self.queries: list[dict[str, str]] = []

    async def request(self, method: str, path: str, *, query: dict[str, str], accept: str) -> Any:
        answer = self.lists.pop(0)
        if isinstance(answer, ChoregosError):
            raise answer
        return answer

    async def lines(self, path: str, query: dict[str, str], **_: Any) -> AsyncIterator[bytes]:
        self.queries.append(query)
        if not self.streams:
            raise Denied("the script is over")
        for entry in self.streams.pop(0):
            if isinstance(entry, ChoregosError):
                raise entry
            yield entry


async def seen(script: Script, after: Listing | None = None) -> list[str]:
    """All events until the script is over."""
    watch = Watch(script, "/p", {}, NoWait(), after=after)  # type: ignore[arg-type]
    found = []
    with contextlib.suppress(Denied):
        async for event in watch.events():
            found.append(f"{event.type} {event.object['metadata']['name']}")
    return found


async def test_it_begins_with_what_is_there() -> None:
    script = Script([page(5, obj("a", 3))], [[line("ADDED", obj("b", 6))]])
    assert await seen(script) == ["ADDED a", "ADDED b"]
    assert script.queries[0]["resourceVersion"] == "5"


async def test_it_goes_on_where_it_was_after_an_end_or_a_break() -> None:
    script = Script(
        [page(5)],
        [
            [line("ADDED", obj("a", 6))],
            [line("MODIFIED", obj("a", 8)), Temporary("gone")],
            [line("BOOKMARK", obj("", 12))],
        ],
    )
    assert await seen(script) == ["ADDED a", "MODIFIED a"]
    assert [query["resourceVersion"] for query in script.queries] == ["5", "6", "8", "12"]


@pytest.mark.parametrize(
    "expired", [Expired("old"), line("ERROR", {"code": 410, "reason": "Expired", "message": "old"})]
)
async def test_a_forgotten_revision_is_told_as_a_difference(expired: Any) -> None:
    first = page(5, obj("kept", 1), obj("changed", 2), obj("removed", 3))
    second = page(9, obj("kept", 1), obj("changed", 7), obj("new", 8))
    script = Script([first, second], [[expired], [line("DELETED", obj("kept", 10))]])
    assert (await seen(script))[3:] == ["DELETED removed", "MODIFIED changed", "ADDED new", "DELETED kept"]
    assert script.queries[-2]["resourceVersion"] == "9"


async def test_after_a_listing_only_the_difference_is_told() -> None:
    listing = Listing({}, [obj("a", 1), obj("b", 2)], "5")
    script = Script([page(9, obj("b", 2))], [[Expired("old")], []])
    assert await seen(script, listing) == ["DELETED a"]


async def test_a_first_request_that_fails_is_raised() -> None:
    with pytest.raises(Temporary, match="down"):
        await seen(Script([Temporary("down")], []))


async def test_pages_are_read_to_the_end() -> None:
    script = Script([page(5, obj("a", 1), more="t"), page(5, obj("b", 2))], [])
    listing = await list_all(script, "/p", {})  # type: ignore[arg-type]
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert listing.items[0]["kind"] == "Thing"
    assert listing.revision == "5"


async def test_pages_of_a_forgotten_revision_are_read_anew() -> None:
    script = Script([page(5, obj("a", 1), more="t"), Expired("old"), page(9, obj("b", 2))], [])
    listing = await list_all(script, "/p", {})  # type: ignore[arg-type]
    assert [item["metadata"]["name"] for item in listing.items] == ["b"]
    assert listing.revision == "9"
