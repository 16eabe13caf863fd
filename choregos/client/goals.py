"""What `wait` waits for, as a test of one object. Pure; the words are those of `kubectl wait --for`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from choregos.foundation.errors import Invalid

_JSONPATH = re.compile(r"jsonpath=['\"]?\{?\.?([^}='\"]+)\}?['\"]?(?:=(.*))?", re.DOTALL)
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Goal:
    """A state to wait for.

    Attributes:
        words: as it was asked for.
        met: whether an object is there; None stands for an object that does not exist.
        state: where the object is instead, for the message when the time is over.
        of_existing: only an object that exists can get there, so there is no sense in waiting for one that does not.
    """

    words: str
    met: Callable[[Mapping[str, Any] | None], bool]
    state: Callable[[Mapping[str, Any] | None], str]
    of_existing: bool = True


def parse_goal(words: str) -> Goal:
    """`condition=Ready`, `condition=Ready=False`, `delete`, `create`, `jsonpath={.status.phase}=Running`.

    Raises:
        Invalid: `words` is none of these.
    """
    kind, _, rest = words.partition("=")
    if words == "delete":
        return Goal(words, lambda obj: obj is None, _existence, of_existing=False)
    if words == "create":
        return Goal(words, lambda obj: obj is not None, _existence, of_existing=False)
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        return _condition(words, name, value or "True")
    path = _JSONPATH.fullmatch(words)
    if path:
        return _json_path(words, path[1], path[2])
    raise Invalid(
        f"cannot wait for {words!r}: expected condition=NAME, condition=NAME=STATUS, delete, create or "
        "jsonpath={.PATH}=VALUE"
    )


def _condition(words: str, name: str, value: str) -> Goal:
    def find(obj: Mapping[str, Any] | None) -> Mapping[str, Any]:
        conditions = ((obj or {}).get("status") or {}).get("conditions") or ()
        return next((c for c in conditions if str(c.get("type", "")).lower() == name.lower()), {})

    def met(obj: Mapping[str, Any] | None) -> bool:
        if obj is None:
            return False
        found = find(obj)
        # A condition that speaks of an earlier generation says nothing of what was asked for since.
        observed = found.get("observedGeneration")
        current = (obj.get("metadata") or {}).get("generation")
        stale = isinstance(observed, int) and isinstance(current, int) and observed < current
        return not stale and str(found.get("status", "")).lower() == value.lower()

    def state(obj: Mapping[str, Any] | None) -> str:
        if obj is None:
            return "it does not exist"
        found = find(obj)
        if not found:
            return f"it has no condition {name} yet"
        why = ": ".join(str(found[key]) for key in ("reason", "message") if found.get(key))
        return f"{name} is {found.get('status')}" + (f" ({why})" if why else "")

    return Goal(words, met, state)


def _json_path(words: str, path: str, value: str | None) -> Goal:
    def find(obj: Mapping[str, Any] | None) -> Any:
        found: Any = obj
        for key, index in _STEP.findall(path):
            if key and isinstance(found, Mapping):
                found = found.get(key)
            elif index and isinstance(found, list) and int(index) < len(found):
                found = found[int(index)]
            else:
                return None
        return found

    def met(obj: Mapping[str, Any] | None) -> bool:
        found = find(obj)
        return found is not None if value is None else _text(found) == value

    def state(obj: Mapping[str, Any] | None) -> str:
        return f".{path} is {_text(find(obj)) or 'not set'}" if obj is not None else "it does not exist"

    return Goal(words, met, state)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _existence(obj: Mapping[str, Any] | None) -> str:
    if obj is None:
        return "it does not exist"
    finalizers = (obj.get("metadata") or {}).get("finalizers")
    return f"it still exists, held by {', '.join(finalizers)}" if finalizers else "it still exists"
