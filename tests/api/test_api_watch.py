from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from choregos.api.context import ApiLimits
from choregos.api.server import build_app
from choregos.api.sources import StoredSource
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Temporary

NODES = "/apis/choregos.dev/v1/agentnodes"
NAMESPACES = "/api/v1/namespaces"
INITIAL = {"watch": "true", "sendInitialEvents": "true", "allowWatchBookmarks": "true"}
INITIAL |= {"resourceVersionMatch": "NotOlderThan"}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def _seen(event: Any) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"]["name"]


async def test_a_streaming_list_ends_with_a_bookmark_and_goes_on_with_changes(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    async with client.stream(NODES, **INITIAL) as stream:
        added, bookmark = await stream.line(), await stream.line()
        assert _seen(added) == ("ADDED", "n1")
        assert bookmark["type"] == "BOOKMARK"
        assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await client.patch(f"{NODES}/n1", {"metadata": {"labels": {"a": "b"}}})
        assert (await stream.line())["type"] == "MODIFIED"


async def test_a_watch_from_a_revision_sees_exactly_what_came_after_it(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    listed = (await client.get(NODES)).json
    await client.post(NODES, manifests.node("n2"))
    async with client.stream(NODES, watch="true", resourceVersion=listed["metadata"]["resourceVersion"]) as stream:
        assert _seen(await stream.line()) == ("ADDED", "n2")
        await client.delete(f"{NODES}/n1")
        deleted = await stream.line()
        assert _seen(deleted) == ("DELETED", "n1")
        version = deleted["object"]["metadata"]["resourceVersion"]
    async with client.stream(NODES, watch="true", resourceVersion=version) as stream:
        await client.post(NODES, manifests.node("n3"))
        assert _seen(await stream.line()) == ("ADDED", "n3")


async def test_revision_zero_and_none_begin_with_what_there_is(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    for query in ({"resourceVersion": "0"}, {}):
        async with client.stream(NODES, watch="true", **query) as stream:
            assert _seen(await stream.line()) == ("ADDED", "n1")


async def test_a_selector_shows_objects_that_come_and_go(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    async with client.stream(NODES, watch="true", labelSelector="tier=gold") as stream:
        await client.post(NODES, manifests.node("n2", tier="iron"))
        await client.patch(f"{NODES}/n1", {"metadata": {"labels": {"tier": "gold"}}})
        assert _seen(await stream.line()) == ("ADDED", "n1")
        await client.patch(f"{NODES}/n1", {"metadata": {"labels": {"colour": "red"}}})
        assert _seen(await stream.line()) == ("MODIFIED", "n1")
        await client.patch(f"{NODES}/n1", {"metadata": {"labels": {"tier": "iron"}}})
        assert _seen(await stream.line()) == ("DELETED", "n1")


async def test_one_object_is_watched_by_name(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    await client.post(NODES, manifests.node("n2"))
    async with client.stream(f"{NODES}/n2", watch="true") as by_path:
        assert _seen(await by_path.line()) == ("ADDED", "n2")
    async with client.stream(NODES, watch="true", fieldSelector="metadata.name=n2") as by_field:
        assert _seen(await by_field.line()) == ("ADDED", "n2")


async def test_a_table_watch_has_its_columns_once_and_one_row_per_event(client: Any, manifests: Any) -> None:
    async with client.stream(NODES, TABLE, watch="true") as stream:
        for name in ("n1", "n2"):
            await client.post(NODES, manifests.node(name))
        first, second = await stream.line(), await stream.line()
        assert first["object"]["kind"] == "Table"
        assert first["object"]["columnDefinitions"][0]["name"] == "Name"
        assert second["object"]["columnDefinitions"] == []
        assert second["object"]["rows"][0]["cells"][0] == "n2"
        assert second["object"]["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


@pytest.mark.parametrize("form", ["PartialObjectMetadata", "PartialObjectMetadataList"])
async def test_a_watch_of_metadata_shows_nothing_else_in_its_bookmarks_either(
    client: Any, manifests: Any, form: str
) -> None:
    await client.post(NODES, manifests.node("n1"))
    accept = f"application/json;as={form};g=meta.k8s.io;v=v1"
    async with client.stream(NODES, accept, **INITIAL) as stream:
        added, bookmark = await stream.line(), await stream.line()
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    for seen in (added, bookmark):
        assert seen["object"].keys() == {"kind", "apiVersion", "metadata"}
        assert (seen["object"]["kind"], seen["object"]["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_many_changes_at_once_all_arrive_in_order(client: Any, manifests: Any) -> None:
    async with client.stream(NODES, watch="true") as stream:
        for number in range(300):
            await client.post(NODES, manifests.node(f"n{number}"))
        names = [_seen(await stream.line())[1] for _ in range(300)]
    assert names == [f"n{number}" for number in range(300)]


async def test_an_old_revision_is_an_error_event(world: Any, manifests: Any) -> None:
    async with world.client.stream(NODES, watch="true", resourceVersion="0") as stream:
        await world.client.post(NODES, manifests.node("n1"))
        assert _seen(await stream.line()) == ("ADDED", "n1")
    # One revision is the namespace of the server's start; a ring knows nothing from before it was there.
    for number in range(5000):
        await world.context.resources.create("agentnodes", {"metadata": {"name": f"old-{number}"}})
    async with world.client.stream(NODES, watch="true", resourceVersion="2") as stream:
        error = await stream.line()
        assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await stream.lines_to_end() == []


async def test_a_watch_ends_when_its_time_is_up(client: Any) -> None:
    async with client.stream(NODES, watch="true", timeoutSeconds=1) as stream:
        assert await stream.lines_to_end() == []


async def test_a_quiet_watch_sends_bookmarks(world: Any, manifests: Any) -> None:
    app = build_app(replace(world.context, limits=ApiLimits(bookmark_s=0.02)))
    client = type(world.client)(app, world.client._certificate)
    async with client.stream(NODES, watch="true", allowWatchBookmarks="true") as stream:
        bookmark = await stream.line()
        assert bookmark["type"] == "BOOKMARK"
        await client.post("/api/v1/namespaces", {"metadata": {"name": "elsewhere"}})
        revision = str(world.context.resources.revision)
        while bookmark["object"]["metadata"]["resourceVersion"] != revision:
            bookmark = await stream.line()
        assert bookmark["object"]["kind"] == "AgentNode"
    await app.close()


class _LeapingClock(SystemClock):
    """Runs `ahead_s` seconds fast."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


async def test_a_busy_watch_sends_bookmarks_too(world: Any, manifests: Any) -> None:
    clock = _LeapingClock()
    app = build_app(replace(world.context, clock=clock))
    client = type(world.client)(app, world.client._certificate)
    await client.post(NODES, manifests.node("n0", tier="gold"))
    query = {"watch": "true", "allowWatchBookmarks": "true", "labelSelector": "tier=gold"}
    async with client.stream(NODES, **query) as stream:
        assert _seen(await stream.line()) == ("ADDED", "n0")
        for number in (1, 2):
            # A change that is not selected wakes the watch before a real minute of silence could.
            clock.ahead_s += 61
            await client.post(NODES, manifests.node(f"n{number}"))
            bookmark = await stream.line()
            assert bookmark["type"] == "BOOKMARK"
            assert bookmark["object"]["metadata"]["resourceVersion"] == str(world.context.resources.revision)
    await app.close()


async def test_a_watch_whose_time_is_up_ends_with_a_bookmark(client: Any, manifests: Any) -> None:
    async with client.stream(NODES, watch="true", timeoutSeconds=1, allowWatchBookmarks="true") as stream:
        await client.post(NAMESPACES, {"metadata": {"name": "elsewhere"}})
        revision = (await client.get(NAMESPACES)).json["metadata"]["resourceVersion"]
        (bookmark,) = await stream.lines_to_end()
        assert bookmark["object"]["metadata"]["resourceVersion"] == revision


async def test_watches_end_with_the_server_and_new_ones_end_at_once(world: Any) -> None:
    async with world.client.stream(NODES, watch="true") as stream:
        await world.app.close()
        assert await stream.lines_to_end() == []
    async with world.client.stream(NODES, watch="true") as stream:
        assert await stream.lines_to_end() == []


async def test_a_client_that_goes_away_leaves_no_watch_behind(world: Any) -> None:
    ring = world.context.resources._ring("agentnodes")
    async with world.client.stream(NODES, watch="true"):
        while not ring._watchers:
            await asyncio.sleep(0)
    assert not ring._watchers


async def test_a_watch_that_fails_ends_with_an_error_event(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> Any:
        raise Temporary("the store cannot be reached")

    monkeypatch.setattr(StoredSource, "watch", unreachable)
    async with client.stream(NODES, watch="true") as stream:
        (event,) = await stream.lines_to_end()
    assert (event["type"], event["object"]["code"]) == ("ERROR", 503)
    assert event["object"]["message"] == "the store cannot be reached"
