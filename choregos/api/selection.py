"""Which items a list or watch shows: its label and field selectors as one question about an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from choregos.api.requests import ApiRequest
from choregos.api.rules.options import ListOptions
from choregos.api.rules.status import bad_request
from choregos.resources import registry
from choregos.resources.events import as_recorded
from choregos.resources.kind import Kind
from choregos.resources.schema import has_value, structure
from choregos.resources.selectors import (
    FieldRequirement,
    FieldSelector,
    LabelSelector,
    parse_field_selector,
    parse_label_selector,
)

FIELD_EFFORT = 20
"""Of a requirement on a field, for which a document may have to be made, in requirements on labels."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was selected.

    Attributes:
        matches: asked of every item; None if everything is selected.
        effort: of asking it once, in requirements on labels.
        name: the only name that can match; empty if there may be several.
    """

    matches: Callable[[Any], bool] | None
    effort: int = 0
    name: str = ""


def select(call: ApiRequest, options: ListOptions) -> Selection:
    """
    Raises:
        Refusal: 400, a selector cannot be read, or asks for a field that no such object has: it would select nothing,
            or, with `!=`, everything.
    """
    try:
        labels = parse_label_selector(options.label_selector)
        fields = parse_field_selector(options.field_selector)
    except ValueError as error:
        raise bad_request(f"unable to parse the selector: {error}") from error
    _check_fields(_selected(call.kind), fields)
    if call.kind.plane == "event":
        fields = as_recorded(fields)
    if call.target.name:
        # A watch of one object, as `?watch` on its own path.
        fields = FieldSelector((*fields.requirements, FieldRequirement("metadata.name", True, call.target.name)))
    if not labels and not fields:
        return Selection(None)
    effort = len(labels.requirements) + FIELD_EFFORT * len(fields.requirements)
    return Selection(_question(call, labels, fields), effort, fields.value_of("metadata.name") or "")


def _selected(kind: Kind) -> Kind:
    """Whose fields are compared: of measurements, those of what is measured."""
    measured = registry.by_plural("", "v1", kind.plural) if kind.plane.endswith("metrics") else None
    return measured or kind


def _check_fields(kind: Kind, fields: FieldSelector) -> None:
    """Raises: Refusal 400, no object of the kind has a field by which it is selected."""
    for each in fields.requirements:
        if each.path not in kind.selectable and not has_value(structure(kind), each.path):
            raise bad_request(f"field label not supported: {each.path}")


def _question(call: ApiRequest, labels: LabelSelector, fields: FieldSelector) -> Callable[[Any], bool]:
    source, missing = call.reading(), _selected(call.kind).selectable
    names = FieldSelector(tuple(each for each in fields.requirements if each.path == "metadata.name"))
    others = FieldSelector(tuple(each for each in fields.requirements if each.path != "metadata.name"))

    def matches(item: Any) -> bool:
        # The cheapest question first: only the last one makes a document of an item.
        if names and not names.matches_fields(lambda _: source.name(item)):
            return False
        if labels and not labels.matches(source.labels(item)):
            return False
        if not others:
            return True
        return others.matches_fields(lambda path: source.field(item, path) or missing.get(path, ""))

    return matches
