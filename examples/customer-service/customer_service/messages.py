"""What the three kinds of agents say to one another, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Turn:
    """Something said earlier in the conversation."""

    role: Literal["customer", "agent"]
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A help article that speaks of what was asked.

    Attributes:
        article: its identifier.
        score: BM25; comparable within one search only.
    """

    article: str
    title: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """How a message was read.

    Attributes:
        needs_human: whether a person should take over.
        confidence: probability of the verdict on `needs_human`, as far as naive Bayes can tell.
        urgency: `low` or `high`.
        sentiment: `negative`, `neutral` or `positive`.
        subject: what it is about, such as `delivery`; a label of the training sentences.
        reason: one sentence that says why.
    """

    needs_human: bool
    confidence: float
    urgency: str
    sentiment: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Consulted:
    """Another agent, or the language model, asked on the way to an answer.

    Attributes:
        what: a capability, or `language model`.
        who: the agent that answered.
        found: what it answered, in a few words.
        duration_ms: how long it took, as seen by the one who asked.
    """

    what: str
    who: str
    found: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a customer, and how it came about.

    Attributes:
        agent: name of the agent that answered.
        handed_over: whether a person takes over.
    """

    text: str
    agent: str
    handed_over: bool
    assessment: Assessment
    articles: list[str]
    consulted: list[Consulted]
