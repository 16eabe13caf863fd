"""Judges objects by the rules in the schema of their kind: the text that is published is the text that is evaluated.

All occurrences of a rule in an object are judged by one call, `every.all(self, …)`, and one by one only if that says
no: a call costs more than most rules. Of each occurrence CEL is shown what its rule speaks of and nothing else, so
neither the size of an object nor what is free-form in it matters.

Invariant: CEL sees no value that the model has found wrong. It would misjudge some of them: its texts end at a NUL, and
it overflows the stack over values that are nested some ten thousand deep. What a rule costs is bounded: it ends after
10,000 iterations, and patterns are matched in linear time (RE2).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from choregos.resources.kind import Kind, ReadOnlyObject
from choregos.resources.rules.rule import INVALID, VALIDATIONS
from choregos.resources.schema import Schema, openapi_schema

if TYPE_CHECKING:
    from cel_expr_python import cel

Location = tuple[int | str, ...]

RULE_LENGTH_MAX = 1000
"""Characters of a rule. A longer one is several rules, or should be said in Python."""

_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'")
_MENTION = re.compile(r"\b(?:self|oldSelf)\b((?:\.\??[A-Za-z_]\w*)*)(\()?")
_ASKED = re.compile(r"\bhas\((?:self|oldSelf)((?:\.[A-Za-z_]\w*)+)\)")

_NEEDED, _PRESENT = "needed", "present"
"""Leaves of an outline: the value is needed, or only whether there is one."""

Outline = dict[str, Any]
"""What a rule speaks of: for each name a leaf, or what it speaks of within. Empty: the whole value."""


_TOGETHER = 1000
"""Occurrences that are judged at once. An evaluation ends after 10,000 iterations, those within a rule included."""

_NOTHING: Mapping[str, Any] = {}


class Broken(NamedTuple):
    """A rule that does not hold at one place.

    Attributes:
        location: of the field that is at fault.
        reason: a `metav1.CauseType`.
    """

    location: Location
    message: str
    reason: str


class _Occurrence(NamedTuple):
    location: Location
    value: Any
    old: Any


class Program:
    """One rule, compiled.

    Attributes:
        source: its CEL.
        compares: whether it is about what changes, so needs the old value too.
    """

    def __init__(self, environment: cel.Env, declared: Mapping[str, str]) -> None:
        self.source = declared["rule"]
        self.compares = "oldSelf" in self.source
        says = declared.get("messageExpression", "")
        if max(len(self.source), len(says)) > RULE_LENGTH_MAX:
            raise ValueError(f"a rule has at most {RULE_LENGTH_MAX} characters: {self.source[:40]}…")
        self._message = declared["message"]
        self._reason = declared.get("reason", INVALID)
        self._field = tuple(declared.get("fieldPath", "").split(".")[1:])
        self._outline = outline(f"{self.source} {says}")
        self._paths = tuple(_paths(self._outline))
        self._single = environment.compile(self.source)
        self._every = None if self.compares else environment.compile(f"every.all(self, {self.source})")
        self._says = environment.compile(says) if says else None

    def speaks_of_any(self, faulty: Collection[Location], location: Location) -> bool:
        """Whether any of these places is one that it speaks of where it occurs."""
        return any((*location, *path) in faulty for path in self._paths)

    def judge(self, occurrences: list[_Occurrence], *, doubtful: bool) -> Iterator[Broken]:
        """Where it does not hold.

        Args:
            doubtful: the model has found faults. What cannot be judged may be due to them and is passed over.
        """
        for start in range(0, len(occurrences), _TOGETHER):
            some = occurrences[start : start + _TOGETHER]
            shown = [_shown(self._outline, each.value) for each in some]
            if self._every is None or _value(self._every, {"every": shown}) is not True:
                yield from self._judge_singly(some, shown, doubtful=doubtful)

    def _judge_singly(self, occurrences: list[_Occurrence], shown: list[Any], *, doubtful: bool) -> Iterator[Broken]:
        for occurrence, value in zip(occurrences, shown, strict=True):
            seen = {"self": value}
            if self.compares:
                seen["oldSelf"] = _shown(self._outline, occurrence.old)
            verdict = _value(self._single, seen)
            if verdict is True or (verdict is not False and doubtful):
                continue
            message = str(_value(self._says, seen)) if self._says is not None else self._message
            if verdict is not False:
                message = f"{self._message}; but `{self.source}` cannot be judged here: {verdict}"
            yield Broken((*occurrence.location, *self._field), message, self._reason)


def _value(expression: cel.Expression, data: Mapping[str, Any]) -> Any:
    """What it evaluates to; text with what went wrong if it cannot be evaluated or counts too many iterations."""
    try:
        return expression.eval(data=data).value()
    except RuntimeError as error:
        return str(error)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A place of a kind at which, or below which, there are rules.

    Attributes:
        fields: by name.
        element: what is in a list, or under the keys of an object that has any.
    """

    programs: tuple[Program, ...]
    fields: Mapping[str, Place]
    element: Place | None


def broken_rules(
    kind: Kind, obj: ReadOnlyObject, *, previous: ReadOnlyObject | None = None, faulty: Collection[Location] = ()
) -> Iterator[Broken]:
    """What in `obj` is not as the rules of its kind demand.

    Args:
        obj: in its normal form; or as it came, if the model has found faults.
        previous: the stored object, on an update. Without it rules about changes are passed over.
        faulty: where the model has found faults. Rules that speak of these places are passed over.
    """
    place = places(kind)
    if place is None:
        return
    found: dict[Program, list[_Occurrence]] = {}
    _collect(place, obj, (), previous, found)
    touched = {location[:length] for location in faulty for length in range(len(location) + 1)}
    for program, occurrences in found.items():
        sound = [each for each in occurrences if not touched or not program.speaks_of_any(touched, each.location)]
        yield from program.judge(sound, doubtful=bool(faulty))


def _collect(place: Place, value: Any, location: Location, old: Any, found: dict[Program, list[_Occurrence]]) -> None:
    for program in place.programs:
        if not program.compares or old is not None:
            found.setdefault(program, []).append(_Occurrence(location, value, old))
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else _NOTHING
        for name, below in place.fields.items():
            part = value.get(name)
            if part is not None:
                _collect(below, part, (*location, name), before.get(name), found)
        if place.element is not None:
            for name, part in value.items():
                if name not in place.fields:
                    _collect(place.element, part, (*location, name), before.get(name), found)
    elif isinstance(value, list) and place.element is not None:
        for index, item in enumerate(value):
            # Not even in a list whose elements have names is one compared with what it was: no rule asks for that.
            _collect(place.element, item, (*location, index), None, found)


@lru_cache(maxsize=64)
def places(kind: Kind) -> Place | None:
    """Where a kind has rules, compiled; None if it has none."""
    return _place(openapi_schema(kind, kind.group, kind.version))


def _place(schema: Schema) -> Place | None:
    fields = {name: _place(child) for name, child in schema.get("properties", {}).items()}
    inside = schema.get("items", schema.get("additionalProperties"))
    element = _place(inside) if isinstance(inside, dict) else None
    within = {name: place for name, place in fields.items() if place is not None}
    declared = schema.get(VALIDATIONS, ())
    if not declared and not within and element is None:
        return None
    return Place(tuple(Program(_environment(), each) for each in declared), within, element)


@lru_cache(maxsize=1)
def _environment() -> cel.Env:
    # Here, because what only wants to read a schema or an object need not load it.
    from cel_expr_python import cel
    from cel_expr_python.ext.ext_optional import ExtOptional
    from cel_expr_python.ext.ext_strings import ExtStrings

    any_value = cel.Type.DYN
    variables = {"self": any_value, "oldSelf": any_value, "every": cel.Type.List(any_value)}
    return cel.NewEnv(variables=variables, extensions=[ExtOptional(), ExtStrings()])


# What a rule speaks of


def outline(source: str) -> Outline:
    """What CEL needs to be shown of `self` and `oldSelf` to evaluate `source`."""
    source = _TEXT.sub("''", source)
    needed: Outline = {}
    for path, call in _MENTION.findall(_ASKED.sub("", source)):
        names = path.replace("?", "").split(".")[1:]
        names = names[:-1] if call else names  # the last one is a function's: `self.name.matches(…)`
        if not names:
            return {}
        _add(needed, names, _NEEDED)
    for path in _ASKED.findall(source):
        _add(needed, path.split(".")[1:], _PRESENT)
    return needed


def _add(found: Outline, names: list[str], leaf: str) -> None:
    for name in names[:-1]:
        within = found.setdefault(name, {})
        if within == _NEEDED:
            return
        if within == _PRESENT:
            within = found[name] = {}
        found = within
    if leaf == _NEEDED or names[-1] not in found:
        found[names[-1]] = leaf


def _paths(found: Outline, before: Location = ()) -> Iterator[Location]:
    """The places that an outline speaks of."""
    if not found:
        yield before
    for name, within in found.items():
        yield from _paths(within if isinstance(within, dict) else {}, (*before, name))


def _shown(found: Outline, value: Any) -> Any:
    """What of a value is in the outline; a null is absent."""
    if not found or not isinstance(value, dict):
        return value
    return {
        name: True if within == _PRESENT else value[name] if within == _NEEDED else _shown(within, value[name])
        for name, within in found.items()
        if value.get(name) is not None
    }
