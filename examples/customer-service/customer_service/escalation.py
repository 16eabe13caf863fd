"""The escalation agent: reads a message and says whether a person should take over.

Four naive Bayes classifiers, trained in a few milliseconds at start on the sentences of `labelled.tsv`, which were
written for this example. It knows the words of those sentences and nothing else: irony, spelling mistakes and other
languages escape it. `tests/test_customer_service_escalation.py` measures how often it is right on sentences that were
held back.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from choregos import Agent, capability
from customer_service.bayes import NaiveBayes
from customer_service.messages import Assessment
from customer_service.terms import words

SENTENCES = Path(__file__).with_name("labelled.tsv")
SHOUTED_LETTERS_MIN = 4


@dataclass(frozen=True, slots=True)
class Sentence:
    """A training example; the labels are those of `Assessment`, `handling` is `self` or `human`."""

    handling: str
    urgency: str
    sentiment: str
    subject: str
    message: str


def read_sentences(path: Path = SENTENCES) -> list[Sentence]:
    """The rows of a tab-separated file with a heading."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [Sentence(**row) for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def features(message: str) -> list[str]:
    """What the classifiers see: words, neighbouring words, and how loudly it is said."""
    single = words(message)
    seen = single + [f"{first} {second}" for first, second in itertools.pairwise(single)]
    if "!" in message:
        seen.append("!")
    if any(word.isupper() and len(word) >= SHOUTED_LETTERS_MIN for word in message.split()):
        seen.append("SHOUTED")
    return seen


class Classifier:
    """Reads messages as the sentences it was trained on were labelled."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        seen = [(features(sentence.message), sentence) for sentence in sentences]
        self._handling = NaiveBayes((words, sentence.handling) for words, sentence in seen)
        self._urgency = NaiveBayes((words, sentence.urgency) for words, sentence in seen)
        self._sentiment = NaiveBayes((words, sentence.sentiment) for words, sentence in seen)
        self._subject = NaiveBayes((words, sentence.subject) for words, sentence in seen)

    def assess(self, message: str, human_threshold: float = 0.5) -> Assessment:
        """`human_threshold`: probability from which a message is handed to a person."""
        seen = features(message)
        human = self._handling.probabilities(seen).get("human", 0.0)
        urgency, sentiment, subject = (
            next(iter(classifier.probabilities(seen))) for classifier in (self._urgency, self._sentiment, self._subject)
        )
        needs_human = human >= human_threshold
        verdict = "a person should answer" if needs_human else "can be answered from the help articles"
        return Assessment(
            needs_human=needs_human,
            confidence=round(human if needs_human else 1 - human, 3),
            urgency=urgency,
            sentiment=sentiment,
            subject=subject,
            reason=f"{sentiment} message of {urgency} urgency about {subject}: {verdict}",
        )


@cache
def trained_classifier() -> Classifier:
    """The classifier of the example; trained once a process."""
    return Classifier(read_sentences())


class Escalation(Agent):
    """Settings: `human_threshold`, 0.5 unless the manifest says otherwise."""

    async def on_start(self) -> None:
        self._human_threshold = float(self.settings.get("human_threshold", 0.5))
        trained_classifier()

    @capability("escalation.classify")
    async def classify(self, message: str) -> Assessment:
        """How urgent and how angry the message is, what it is about, and whether a person should answer it."""
        assessment = trained_classifier().assess(message, self._human_threshold)
        if assessment.needs_human:
            self.log.warning("a person should take over", reason=assessment.reason, confidence=assessment.confidence)
        return assessment
