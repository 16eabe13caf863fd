"""Cross-field rules of agent templates and strategies, for the kinds that contain them. Sees unchecked input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from choregos.foundation.errors import FieldError
from choregos.resources import percent

_NONE: Mapping[str, Any] = {}


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else _NONE


def named_entries(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, entry) of those entries of a list that are objects with a name."""
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            yield f"{path}[{index}]", entry


def template_faults(template: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    tolerations = mapping(template.get("placement")).get("tolerations")
    for index, toleration in enumerate(tolerations if isinstance(tolerations, list) else ()):
        yield from _toleration_faults(mapping(toleration), f"{path}.placement.tolerations[{index}]")


def _toleration_faults(toleration: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key") and not exists:
        yield FieldError(f"{path}.operator", "must be Exists when there is no key", "FieldValueInvalid")
    if exists and toleration.get("value"):
        yield FieldError(f"{path}.value", "may not be given with operator Exists", "FieldValueForbidden")


def strategy_faults(strategy: Any, path: str) -> Iterator[FieldError]:
    fields = mapping(strategy)
    try:
        surge = percent.canonical_count_or_percent(fields.get("maxSurge", percent.ROLLOUT_DEFAULT))
        missing = percent.canonical_count_or_percent(fields.get("maxUnavailable", percent.ROLLOUT_DEFAULT))
    except (ValueError, TypeError):
        return  # the model reports it
    if surge in {0, "0%"} and missing in {0, "0%"}:
        yield FieldError(f"{path}.maxUnavailable", "may not be 0 while maxSurge is 0", "FieldValueInvalid")
