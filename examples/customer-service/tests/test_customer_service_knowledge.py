"""The corpus is well formed, and customers' questions find the article that answers them."""

from __future__ import annotations

import pytest
from customer_service.knowledge import parse_articles, shop_library
from customer_service.terms import terms, words

QUESTIONS = [
    ("Hello, my lamp arrived broken. What can I do?", "damaged-item"),
    ("How long does a refund take?", "refund-time"),
    ("Where is my parcel? It has not moved for a week.", "track-order"),
    ("Can I change the colour of my order?", "change-order"),
    ("Do you ship to Norway?", "delivery-abroad"),
    ("What bulbs fit the table lamp?", "lamp-bulbs"),
    ("Can the sofa cover be washed?", "care-textiles"),
    ("Somebody hacked my account and ordered things", "account-security"),
    ("I forgot my password", "account-password"),
    ("How do I cancel my order?", "cancel-order"),
    ("Which payment methods do you accept?", "payment-methods"),
    ("Can someone put the wardrobe together for me?", "assembly"),
    ("My parcel is late.", "late-delivery"),
    ("The sofa I ordered is too big, can I send it back?", "return-item"),
    ("I was charged twice", "double-charge"),
    ("How long is the guarantee on lamps?", "guarantee"),
]


@pytest.mark.parametrize(("question", "article"), QUESTIONS)
def test_question_finds_its_article_first(question: str, article: str) -> None:
    assert shop_library().search(question, 3)[0].article == article


@pytest.mark.parametrize("question", ["What is the capital of France?", "asdf qwer", "", "and the of"])
def test_question_of_something_else_finds_nothing(question: str) -> None:
    assert shop_library().search(question, 3) == []


def test_corpus_has_distinct_articles_of_a_few_sentences() -> None:
    articles = shop_library().articles
    assert len({article.identifier for article in articles}) == len(articles) >= 40
    assert all(article.text.endswith(".") and article.wording and len(article.text) < 300 for article in articles)


@pytest.mark.parametrize("markdown", ["## no identifier\n\ntext", "## an-article: with no text\n\n> wording"])
def test_malformed_article_is_refused(markdown: str) -> None:
    with pytest.raises(ValueError, match="not an article"):
        parse_articles(markdown)


@pytest.mark.parametrize(
    "one", ["return returned returning returns", "deliver delivered delivers", "stop stopped stopping"]
)
def test_forms_of_a_word_share_a_term(one: str) -> None:
    assert len(set(terms(one))) == 1


def test_terms_leave_out_what_every_text_says() -> None:
    assert terms("What can I do with the lamp?") == ["lamp"]
    assert words("What can I do?") == ["what", "can", "i", "do"]
