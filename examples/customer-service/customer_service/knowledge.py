"""The knowledge agent: finds the help articles that speak of a question.

Owns the index, which is built once a process and shared by its agents. Retrieval is BM25 over the article's title
(counted twice), its text and the customers' words for it: no model, a fraction of a millisecond.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from choregos import Agent, capability
from customer_service.messages import Passage
from customer_service.ranking import Bm25
from customer_service.terms import terms

ARTICLES = Path(__file__).with_name("articles.md")
PASSAGES_MAX = 10
SCORE_MIN = 3.5
"""Below this the only words in common are ones that many articles have."""
HEADING = re.compile(r"^## (?P<identifier>[a-z-]+): (?P<title>.+)$")


@dataclass(frozen=True, slots=True)
class Article:
    """One section of `articles.md`.

    Attributes:
        wording: how customers speak of it; searched, never shown.
    """

    identifier: str
    title: str
    text: str
    wording: str


def parse_articles(markdown: str) -> list[Article]:
    """The sections of the file in order.

    Raises:
        ValueError: a heading is not `## identifier: title`, or its section has no text.
    """
    articles = []
    for section in re.split(r"^(?=## )", markdown, flags=re.MULTILINE)[1:]:
        head, *lines = section.splitlines()
        heading = HEADING.match(head)
        text = " ".join(line.strip() for line in lines if line and not line.startswith(">"))
        if heading is None or not text:
            raise ValueError(f"not an article: {head!r}")
        wording = " ".join(line[1:].strip() for line in lines if line.startswith(">"))
        articles.append(Article(heading["identifier"], heading["title"], text, wording))
    return articles


class Library:
    """Articles and the index over them."""

    def __init__(self, articles: list[Article]) -> None:
        self.articles = articles
        self._index = Bm25(
            [terms(article.title) * 2 + terms(article.text) + terms(article.wording) for article in articles]
        )

    def search(self, query: str, limit: int) -> list[Passage]:
        """The best `limit` articles that score at least `SCORE_MIN`, best first."""
        return [
            Passage(article.identifier, article.title, article.text, round(score, 3))
            for position, score in self._index.rank(terms(query), limit)
            if score >= SCORE_MIN
            for article in [self.articles[position]]
        ]


@cache
def shop_library() -> Library:
    """The library of the example's shop; read and indexed once a process."""
    return Library(parse_articles(ARTICLES.read_text(encoding="utf-8")))


class Knowledge(Agent):
    """Answers questions with passages, never with prose of its own."""

    async def on_start(self) -> None:
        self.log.info("index ready", articles=len(shop_library().articles))

    @capability("knowledge.search")
    async def search(self, query: str, limit: int = 3) -> list[Passage]:
        """The passages that speak of `query`, best first; none if nothing does. `limit` is cut to 1 to 10."""
        return shop_library().search(query, max(1, min(limit, PASSAGES_MAX)))
