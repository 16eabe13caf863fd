from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.rules import pages
from choregos.api.rules.pages import Page, Snapshot, Snapshots
from choregos.api.rules.status import Refusal
from choregos.api.rules.views import transition
from choregos.store import resources

NODES = "/apis/choregos.dev/v1/agentnodes"


def _snapshot(count: int) -> Snapshot[int]:
    return Snapshot(9, [("", f"n{number:05}") for number in range(count)], list(range(count)))


def _page(cut: Generator[None, None, Page[int]]) -> Page[int]:
    while True:
        try:
            next(cut)
        except StopIteration as end:
            page: Page[int] = end.value
            return page


def test_so_many_are_asked_at_once() -> None:
    asked: list[int] = []
    for limit, found in [(0, 10), (2, 3), (20, 10)]:
        asked.clear()
        parts = []
        for _ in pages.cut(_snapshot(10), limit, None, lambda item: asked.append(item) is None, at_once=4):
            parts.append(len(asked))
        assert parts == [4, 8][: len(parts)]
        assert len(asked) == found


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 5))
def test_pages_add_up_to_what_matches_and_none_is_empty_but_the_first(total: int, limit: int, every: int) -> None:
    source = _snapshot(total)
    matches = None if every == 1 else lambda item: item % every == 0
    found: list[int] = []
    after = None
    while True:
        page = _page(pages.cut(source, limit, after, matches))
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
    made = []

    def at(log: int, revision: int) -> None:
        def make() -> Snapshot[int]:
            made.append((log, revision))
            return Snapshot(revision, [], [])

        assert held.at(log, "", revision, make).revision == revision

    for revision in (1, 2, 1, 3, 1):
        at(0, revision)
    assert made == [(0, 1), (0, 2), (0, 3)]
    at(0, 2)
    at(1, 2)
    assert made[3:] == [(0, 2), (1, 2)], "a revision of another log is another one"


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


async def test_a_token_whose_moment_is_forgotten_offers_to_continue_from_the_present(
    client: Any, manifests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "HISTORY_CHANGES_MAX", 10)
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


async def test_an_exact_revision_is_served_while_all_changes_since_are_known(
    client: Any, manifests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "HISTORY_CHANGES_MAX", 5)
    revisions = []
    for number in range(6):
        made = await client.post(NODES, manifests.node(f"n{number}"))
        revisions.append(made.json["metadata"]["resourceVersion"])
    for number, revision in enumerate(revisions):
        # Nobody has listed then.
        exact = await client.get(NODES, resourceVersion=revision, resourceVersionMatch="Exact")
        assert exact.json["metadata"]["resourceVersion"] == revision
        assert [item["metadata"]["name"] for item in exact.json["items"]] == [f"n{n}" for n in range(number + 1)]
    before = str(int(revisions[0]) - 1)
    assert (await client.get(NODES, resourceVersion=before, resourceVersionMatch="Exact")).code == 410


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
