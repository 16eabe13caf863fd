"""Selectors of calls: labels and fields in one text, `tier=gold,spec.node!=n1`.

A term is of a field if its key begins with `metadata.`, `spec.` or `status.`; every other term is of a label. (A label
key may contain dots before a slash; one that begins so and has no slash cannot be selected by.) Labels are compared
once per group of instances that share them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from choregos.foundation.remembered import remembered
from choregos.resources.selectors import (
    REMEMBERED_LENGTH_MAX,
    FieldSelector,
    LabelSelector,
    parse_field_selector,
    parse_label_selector,
)
from choregos.store.instance import Instance

# A comma that separates terms: not one between the parentheses of `in (a, b)`.
_COMMA = re.compile(r",(?![^(]*\))")
_FIELD_KEY = re.compile(r"\s*(metadata|spec|status)\.[^/=!]*(=|!=)")

FIELDS: dict[str, Callable[[Instance], str]] = {
    "metadata.name": lambda instance: instance.name,
    "metadata.namespace": lambda instance: instance.namespace,
    "metadata.uid": lambda instance: instance.record.uid,
    "spec.set": lambda instance: instance.record.agent_set,
    "spec.node": lambda instance: instance.record.node,
    "spec.region": lambda instance: instance.group.region,
    "status.host": lambda instance: instance.status.host if instance.status is not None else "",
    "status.phase": lambda instance: instance.phase.value,
}
"""Fields a call can select by."""


class Selection:
    """A parsed selector. Empty (false) selects everything."""

    __slots__ = ("_fields", "_labels")

    def __init__(self, labels: LabelSelector, fields: FieldSelector) -> None:
        self._labels = labels
        self._fields = fields

    def __bool__(self) -> bool:
        return bool(self._labels) or bool(self._fields)

    def matches(self, instance: Instance) -> bool:
        return self._labels.matches(instance.group.labels) and self._fields_match(instance)

    def select(self, instances: Sequence[Instance]) -> Sequence[Instance]:
        """Those that match."""
        if self._labels:
            # Ten thousand agents are a handful of groups.
            verdicts: dict[int, bool] = {}
            selected = []
            for instance in instances:
                group = instance.group
                verdict = verdicts.get(id(group))
                if verdict is None:
                    verdict = verdicts[id(group)] = self._labels.matches(group.labels)
                if verdict:
                    selected.append(instance)
            instances = selected
        return [each for each in instances if self._fields_match(each)] if self._fields else instances

    def _fields_match(self, instance: Instance) -> bool:
        return not self._fields or self._fields.matches_fields(lambda path: FIELDS[path](instance))


@remembered(entries=1024, length_max=REMEMBERED_LENGTH_MAX)
def parse_selector(text: str) -> Selection:
    """
    Raises:
        ValueError: it is no selector, or names a field that agents cannot be selected by.
    """
    terms = [term for term in _COMMA.split(text) if term.strip()]
    of_fields = [term.strip() for term in terms if _FIELD_KEY.match(term)]
    of_labels = [term for term in terms if not _FIELD_KEY.match(term)]
    fields = parse_field_selector(",".join(of_fields))
    for requirement in fields.requirements:
        if requirement.path not in FIELDS:
            raise ValueError(f"agents have no field {requirement.path}; there are: {', '.join(FIELDS)}")
    return Selection(parse_label_selector(",".join(of_labels)), fields)
