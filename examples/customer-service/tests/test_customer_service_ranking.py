"""BM25 against its formula, and the properties that make a ranking one."""

from __future__ import annotations

import math

import pytest
from customer_service.ranking import LENGTH_WEIGHT, SATURATION, Bm25
from hypothesis import given
from hypothesis import strategies as st

WORDS = st.sampled_from(["lamp", "sofa", "table", "return", "refund", "wood"])
DOCUMENTS = st.lists(st.lists(WORDS, max_size=8), min_size=1, max_size=8)


def test_score_is_the_formula() -> None:
    index = Bm25([["lamp", "lamp", "sofa"], ["sofa"], ["table", "wood"]])
    [(position, score)] = index.rank(["lamp"], 5)
    rarity = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    norm = 1 - LENGTH_WEIGHT + LENGTH_WEIGHT * 3 / 2
    assert position == 0
    assert score == pytest.approx(rarity * 2 * (SATURATION + 1) / (2 + SATURATION * norm))


def test_rare_term_weighs_more_than_frequent_one() -> None:
    index = Bm25([["lamp", "sofa"], ["lamp", "table"], ["lamp", "wood"]])
    assert [position for position, _ in index.rank(["lamp", "wood"], 3)] == [2, 0, 1]


def test_short_document_beats_long_one_with_the_same_term() -> None:
    index = Bm25([["lamp", "sofa", "table", "wood"], ["lamp"]])
    assert next(iter(index.rank(["lamp"], 1)))[0] == 1


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_empty_collection_finds_nothing(documents: list[list[str]]) -> None:
    assert Bm25(documents).rank(["lamp"], 3) == []


@given(DOCUMENTS, st.lists(WORDS, max_size=5), st.integers(0, 10))
def test_ranking_is_ordered_bounded_and_only_of_matches(
    documents: list[list[str]], query: list[str], limit: int
) -> None:
    ranked = Bm25(documents).rank(query, limit)
    assert len(ranked) <= limit
    assert ranked == sorted(ranked, key=lambda item: (-item[1], item[0]))
    assert all(score > 0 and set(documents[position]) & set(query) for position, score in ranked)


@given(DOCUMENTS, WORDS)
def test_every_document_with_the_term_is_found(documents: list[list[str]], term: str) -> None:
    found = {position for position, _ in Bm25(documents).rank([term], len(documents))}
    assert found == {position for position, document in enumerate(documents) if term in document}
