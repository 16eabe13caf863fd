"""What the model is allowed to say: true sentences of the article, in order."""

from __future__ import annotations

import pytest
from customer_service.conversation import OPENINGS, TURNS_REMEMBERED, answer_grammar, chat
from customer_service.language_model import literal, one_of
from customer_service.messages import Turn

ARTICLE = "Parcels cost 4.90. Furniture costs 39. You see it before you pay."


def test_grammar_holds_the_first_sentence_and_offers_the_others() -> None:
    openings = one_of(OPENINGS["negative"])
    facts = '"Parcels cost 4.90." (" " "Furniture costs 39.")? (" " "You see it before you pay.")?'
    assert answer_grammar(ARTICLE, "negative") == f'root ::= {openings} " " {facts}\n'


def test_article_of_one_sentence_offers_no_choice() -> None:
    assert answer_grammar("One.", "positive") == f'root ::= {one_of(OPENINGS["positive"])} " " "One."\n'


@pytest.mark.parametrize(("text", "expected"), [('say "yes"', r'"say \"yes\""'), ("a\\b\nc", r'"a\\b\nc"')])
def test_literals_are_escaped(text: str, expected: str) -> None:
    assert literal(text) == expected


def test_chat_remembers_the_last_turns_only() -> None:
    turns = [Turn("customer", str(number)) for number in range(10)]
    messages = chat(ARTICLE, turns, "now")
    assert [message["role"] for message in messages] == ["system", *["user"] * TURNS_REMEMBERED, "user"]
    assert messages[-1]["content"] == "now"
    assert ARTICLE in messages[0]["content"]
