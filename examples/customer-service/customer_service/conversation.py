"""The conversation agent: answers customers with a small language model that is held to what the shop really says.

A model of 135 million parameters speaks fluently and is often wrong: asked freely, it told customers of this shop that
it does not ship to Norway, next to the article that says it does. So the model does not write the facts: it is given
the best article, and a grammar under which it may choose an opening that suits the customer and decides, sentence by
sentence, what of the article to say. Whatever it chooses is true. `settings: {grounded: false}` takes the grammar
away.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from choregos import Agent, capability
from customer_service.language_model import Completion, LanguageModel, literal, one_of, shared_model
from customer_service.messages import Assessment, Consulted, Passage, Reply, Turn

INSTRUCTIONS = (
    "You work for the customer service of Harbour & Pine, a furniture shop. "
    "Answer the customer with the sentences of the help article that answer the question."
)
OPENINGS = {
    "negative": ("I am sorry to hear that.", "I am sorry for the trouble."),
    "neutral": ("Thank you for asking.", "Happy to help.", "Of course."),
    "positive": ("That is good to hear.", "Thank you.", "Happy to help."),
}
UNKNOWN = "Our help articles say nothing about that, and I would rather not guess."
WELCOME = "Is there anything else I can do for you?"
HANDED_OVER = "I have passed our conversation to a colleague, who will contact you."
TURNS_REMEMBERED = 2
TOKENS_MAX = 120
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")

T = TypeVar("T")

# One thread, because the model answers one prompt at a time; shared, like the model, by all agents of the process.
_model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="language-model")


class Conversation(Agent):
    """Answers one message at a time and keeps nothing: the caller brings the conversation so far.

    Settings: `grounded` (true), `threads` for the model (1).
    """

    async def on_start(self) -> None:
        self._grounded = bool(self.settings.get("grounded", True))
        threads = int(self.settings.get("threads", 1))
        self._model: LanguageModel = await _in_model_thread(shared_model, threads)

    @capability("conversation.reply")
    async def reply(self, message: str, conversation: tuple[Turn, ...] = ()) -> Reply:
        """Answers `message`, the customer's latest; `conversation` is what was said before, oldest first.

        Raises:
            choregos.errors.CallError: the knowledge or the escalation agents could not be asked.
        """
        (passages, searched), (assessment, classified) = await asyncio.gather(
            self._search(message), self._classify(message)
        )
        text, written = await self._write(message, conversation, passages[:1], assessment)
        if assessment.needs_human:
            text = f"{text} {HANDED_OVER}"
        return Reply(
            text=text,
            agent=self.name,
            handed_over=assessment.needs_human,
            assessment=assessment,
            articles=[passage.article for passage in passages[:1]],
            consulted=[searched, classified, written],
        )

    async def _search(self, message: str) -> tuple[list[Passage], Consulted]:
        started = time.perf_counter()
        answer = await self.call_detailed(capability="knowledge.search", arguments={"query": message, "limit": 3})
        passages = msgspec.convert(answer.result, list[Passage])
        titles = ", ".join(f"{passage.article} ({passage.score:.1f})" for passage in passages) or "no article"
        return passages, Consulted("knowledge.search", answer.agent, titles, _since_ms(started))

    async def _classify(self, message: str) -> tuple[Assessment, Consulted]:
        started = time.perf_counter()
        answer = await self.call_detailed(capability="escalation.classify", arguments={"message": message})
        assessment = msgspec.convert(answer.result, Assessment)
        return assessment, Consulted("escalation.classify", answer.agent, assessment.reason, _since_ms(started))

    async def _write(
        self, message: str, conversation: Sequence[Turn], passages: Sequence[Passage], assessment: Assessment
    ) -> tuple[str, Consulted]:
        started = time.perf_counter()
        article = passages[0].text if passages else WELCOME if assessment.subject == "thanks" else UNKNOWN
        grammar = answer_grammar(article, assessment.sentiment) if self._grounded else None
        completion = await _in_model_thread(self._complete, chat(article, conversation, message), grammar, TOKENS_MAX)
        found = f"{completion.tokens} tokens after {completion.prompt_tokens} of prompt"
        return completion.text, Consulted("language model", self.name, found, _since_ms(started))

    def _complete(self, messages: list[dict[str, str]], grammar: str | None, tokens_max: int) -> Completion:
        return self._model.complete(messages, grammar=grammar, tokens_max=tokens_max)


def chat(article: str, conversation: Sequence[Turn], message: str) -> list[dict[str, str]]:
    """The messages for the model: the article, the last turns, and what the customer said now."""
    roles = {"customer": "user", "agent": "assistant"}
    remembered = [{"role": roles[turn.role], "content": turn.text} for turn in conversation[-TURNS_REMEMBERED:]]
    instructions = {"role": "system", "content": f"{INSTRUCTIONS}\n\nHelp article: {article}"}
    return [instructions, *remembered, {"role": "user", "content": message}]


def answer_grammar(article: str, sentiment: str) -> str:
    """GBNF: an opening that suits the sentiment, the article's first sentence, any of the others in their order."""
    first, *others = (literal(sentence) for sentence in SENTENCE_END.split(article))
    optional = "".join(f' (" " {sentence})?' for sentence in others)
    openings = one_of(OPENINGS.get(sentiment, OPENINGS["neutral"]))
    return f'root ::= {openings} " " {first}{optional}\n'


async def _in_model_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_model_thread, function, *arguments)


def _since_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)
