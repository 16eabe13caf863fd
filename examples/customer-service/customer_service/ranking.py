"""Okapi BM25 over a small collection held in memory.

Scores follow Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the inverse
document frequency `ln(1 + (N - n + 0.5) / (n + 0.5))`, which is never negative. Pure: built once, asked often.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

SATURATION = 1.2
"""k1: how soon another occurrence of a term stops to matter."""
LENGTH_WEIGHT = 0.75
"""b: how much a long document is held against it, between 0 and 1."""


class Bm25:
    """An index over documents given as terms; a document is known by its position."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        self._lengths = [len(document) for document in documents]
        self._length_mean = sum(self._lengths) / len(self._lengths) if any(self._lengths) else 1.0
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for position, document in enumerate(documents):
            for term, count in Counter(document).items():
                self._postings[term].append((position, count))

    def rank(self, query: Sequence[str], limit: int) -> list[tuple[int, float]]:
        """The `limit` best documents as (position, score), best first, without those that hold no term of the query.

        Equal scores are ordered by position. A term that is asked for twice counts twice.
        """
        scores: dict[int, float] = defaultdict(float)
        for term in query:
            postings = self._postings.get(term, ())
            weight = self._inverse_document_frequency(len(postings))
            for position, count in postings:
                norm = 1 - LENGTH_WEIGHT + LENGTH_WEIGHT * self._lengths[position] / self._length_mean
                scores[position] += weight * count * (SATURATION + 1) / (count + SATURATION * norm)
        return heapq.nsmallest(limit, scores.items(), key=lambda item: (-item[1], item[0]))

    def _inverse_document_frequency(self, holding: int) -> float:
        return math.log(1 + (len(self._lengths) - holding + 0.5) / (holding + 0.5))
