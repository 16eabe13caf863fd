from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.rules import pages
from choregos.api.rules.pages import Snapshot, Snapshots
from choregos.api.rules.status import Refusal
from choregos.api.rules.views import transition

NODES = "/apis/choregos.dev/v1/agentnodes"


def _snapshot(count: int) -> Snapshot[int]:
    return Snapshot(9, [("", f"n{number:05}") for number in range(count)], list(range(count)))


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 5))
def test_pages_add_up_to_what_matches_and_none_is_empty_but_the_first(total: int, limit: int, every: int) -> None:
    source = _snapshot(total)
    matches = None if every == 1 else lambda item: item % every == 0
    found: list[int] = []
    after = None
    while True:
        page = pages.cut(source, limit, after, matches)
        assert page.items or not found
        assert len(page.items) <= limit
        if page.remaining is not None:
            assert page.remaining == total - len(found) - len(page.items)
        found += page.items
        if not page.token:
            break
        after = pages.decode_token(page.token).after
    assert found == [item for item in range(total) if item % every == 0]


@pytest.mark.parametrize("text", ["x", "!!!", "eyJhIjoxfQ", "WzEsWyJhIl1d", "ä"])
def test_a_made_up_token_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        pages.decode_token(text)
    assert caught.value.code == 400


def test_the_least_recently_used_snapshot_is_dropped() -> None:
    held: Snapshots[int] = Snapshots(size_max=2)
    for revision in (1, 2):
        held.at("", revision, lambda: Snapshot(revision, [], []))  # noqa: B023 called at once
    held.held("", 1)
    held.at("", 3, lambda: Snapshot(3, [], []))
    assert [held.held("", revision) is not None for revision in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize(
    ("change", "matched", "matches", "seen"),
    [
        ("ADDED", False, True, "ADDED"),
        ("ADDED", False, False, None),
        ("MODIFIED", True, True, "MODIFIED"),
        ("MODIFIED", False, True, "ADDED"),
        ("MODIFIED", True, False, "DELETED"),
        ("MODIFIED", False, False, None),
        ("DELETED", True, True, "DELETED"),
        ("DELETED", False, False, None),
        ("DELETED", False, True, None),
    ],
)
def test_a_selector_turns_changes_into_transitions(change: str, matched: bool, matches: bool, seen: str | None) -> None:
    assert transition(change, matched=matched, matches=matches) == seen


async def test_chunks_show_one_moment_although_objects_come_and_go_between_them(client: Any, manifests: Any) -> None:
    for number in range(7):
        await client.post(NODES, manifests.node(f"n{number}"))
    first = (await client.get(NODES, limit=3)).json
    assert first["metadata"]["remainingItemCount"] == 4
    await client.delete(f"{NODES}/n4")
    await client.post(NODES, manifests.node("n35"))
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = (await client.get(NODES, **{"limit": 3, "continue": token})).json
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
    assert names == [f"n{number}" for number in range(7)]


async def test_a_token_whose_snapshot_is_gone_offers_to_continue_from_the_present(client: Any, manifests: Any) -> None:
    for number in range(4):
        await client.post(NODES, manifests.node(f"n{number}"))
    token = (await client.get(NODES, limit=2)).json["metadata"]["continue"]
    for number in range(12):
        await client.post(NODES, manifests.node(f"z{number:02}"))
        await client.get(NODES)
    refused = await client.get(NODES, **{"limit": 2, "continue": token})
    assert refused.code == 410
    assert refused.json["reason"] == "Expired"
    resumed = await client.get(NODES, **{"limit": 2, "continue": refused.json["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in resumed.json["items"]] == ["n2", "n3"]


async def test_selectors_narrow_lists(client: Any, manifests: Any) -> None:
    for number in range(6):
        await client.post(NODES, manifests.node(f"n{number}", tier="gold" if number % 2 else "iron"))
    golden = (await client.get(NODES, labelSelector="tier in (gold)", limit=2)).json
    assert [item["metadata"]["name"] for item in golden["items"]] == ["n1", "n3"]
    assert "remainingItemCount" not in golden["metadata"]
    rest = (
        await client.get(NODES, labelSelector="tier in (gold)", **{"continue": golden["metadata"]["continue"]})
    ).json
    assert [item["metadata"]["name"] for item in rest["items"]] == ["n5"]
    one = (await client.get(NODES, fieldSelector="metadata.name=n4,spec.region=local")).json
    assert [item["metadata"]["name"] for item in one["items"]] == ["n4"]
    assert (await client.get(NODES, labelSelector="tier in gold")).code == 400


async def test_an_exact_revision_is_served_while_it_is_held(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    revision = (await client.get(NODES)).json["metadata"]["resourceVersion"]
    await client.post(NODES, manifests.node("n2"))
    exact = await client.get(NODES, resourceVersion=revision, resourceVersionMatch="Exact")
    assert len(exact.json["items"]) == 1
    assert (await client.get(NODES, resourceVersion=1, resourceVersionMatch="Exact")).code == 410


async def test_a_revision_of_the_future_is_waited_for_and_then_refused(world: Any) -> None:
    from dataclasses import replace

    from choregos.api.context import ApiLimits
    from choregos.api.server import build_app

    context = replace(world.context, limits=ApiLimits(future_revision_s=0.01))
    app = build_app(context)
    client = type(world.client)(app, world.client._certificate)
    refused = await client.get(NODES, resourceVersion=10_000)
    assert refused.code == 504
    assert refused.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert refused.header("retry-after") == ["1"]
