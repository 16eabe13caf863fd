"""Multinomial naive Bayes with add-one smoothing, for a handful of labels and a few hundred words.

It counts how often each feature occurs under each label and multiplies, as if features were independent (they are not,
so its probabilities are too sure of themselves; their order is useful, their size less so). See Manning, Raghavan and
Schütze, "Introduction to Information Retrieval", chapter 13. Pure: trained when made, asked afterwards.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence


class NaiveBayes:
    """A classifier trained on (features, label) pairs."""

    def __init__(self, examples: Iterable[tuple[Sequence[str], str]]) -> None:
        """Raises ValueError if there is no example."""
        labels: Counter[str] = Counter()
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for features, label in examples:
            labels[label] += 1
            counts[label].update(features)
        if not labels:
            raise ValueError("a classifier needs at least one example")
        self._known = frozenset(feature for counter in counts.values() for feature in counter)
        self._priors = {label: math.log(count / labels.total()) for label, count in labels.items()}
        self._likelihoods = {label: self._log_likelihoods(counts[label]) for label in labels}

    def probabilities(self, features: Iterable[str]) -> dict[str, float]:
        """Label → probability, most probable first; they add up to one. Features never seen in training say nothing."""
        known = [feature for feature in features if feature in self._known]
        scores = {
            label: prior + sum(self._likelihoods[label][feature] for feature in known)
            for label, prior in self._priors.items()
        }
        highest = max(scores.values())
        total = sum(math.exp(score - highest) for score in scores.values())
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return {label: math.exp(score - highest) / total for label, score in ranked}

    def _log_likelihoods(self, counter: Counter[str]) -> dict[str, float]:
        total = counter.total() + len(self._known)
        return {feature: math.log((counter[feature] + 1) / total) for feature in self._known}
