"""Label and field selectors, as Kubernetes clients write them.

Label selectors: `tier=gold,region in (us, eu),!legacy` or `{matchLabels, matchExpressions}`. Field selectors:
`metadata.name=x,status.phase!=Running`. A selector is parsed once and then asked about many objects. All requirements
must hold; an empty selector selects everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from choregos.foundation.remembered import remembered
from choregos.resources import names
from choregos.resources.kind import ReadOnlyObject, value_at

T = TypeVar("T")

_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_LENGTH_MAX = 16_384
REQUIREMENTS_MAX = 100
"""Each is asked about every object, so many of them would make a list or watch of few objects slow."""
REMEMBERED_LENGTH_MAX = 256
_NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label.

    Attributes:
        operator: `in`, `notin`, `exists`, `absent`, `gt` or `lt`; `=` is `in` with one value, `!=` `notin` with one.
        values: of `in`, `notin` any number, of `gt` and `lt` one whole number.
    """

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == "in":
            return value in self.values
        if self.operator == "notin":
            # As in Kubernetes, an object without the label is not in the set either.
            return value not in self.values
        if self.operator == "exists":
            return value is not None
        if self.operator == "absent":
            return value is None
        if value is None or not _NUMBER.fullmatch(value):
            return False
        bound = int(next(iter(self.values)))
        return int(value) > bound if self.operator == "gt" else int(value) < bound

    def __str__(self) -> str:
        values = sorted(self.values)
        if self.operator in {"exists", "absent"}:
            return self.key if self.operator == "exists" else f"!{self.key}"
        if self.operator in {"gt", "lt"}:
            return f"{self.key}{'>' if self.operator == 'gt' else '<'}{values[0]}"
        if len(values) == 1:
            return f"{self.key}{'=' if self.operator == 'in' else '!='}{values[0]}"
        return f"{self.key} {self.operator} ({','.join(values)})"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All of `requirements`. Its text parses to itself."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __bool__(self) -> bool:
        """Whether it narrows at all."""
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


@remembered(entries=1024, length_max=REMEMBERED_LENGTH_MAX)
def parse_label_selector(text: str) -> LabelSelector:
    """
    Raises:
        ValueError: it is no label selector, and where it goes wrong; or it is longer than anybody needs.
    """
    _check_length(text)
    return LabelSelector(_some(_Parser(text).requirements()))


_EXPRESSIONS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}


def label_selector(selector: Mapping[str, Any]) -> LabelSelector:
    """From `{matchLabels: {…}, matchExpressions: [{key, operator, values}]}`.

    Raises:
        ValueError: an operator is unknown, or its values do not fit.
    """
    requirements = [
        _requirement(key, "in", (value,)) for key, value in sorted((selector.get("matchLabels") or {}).items())
    ]
    for expression in selector.get("matchExpressions") or ():
        operator = _EXPRESSIONS.get(expression.get("operator"))
        if operator is None:
            raise ValueError(f"expected one of {', '.join(_EXPRESSIONS)}, found {expression.get('operator')!r}")
        requirements.append(_requirement(expression["key"], operator, expression.get("values") or ()))
    return LabelSelector(tuple(requirements))


def _requirement(key: str, operator: str, values: Any = ()) -> Requirement:
    if fault := names.qualified_fault(key):
        raise ValueError(f"label key {fault}")
    if operator in {"in", "notin"} and not values:
        raise ValueError(f"{operator} of {key!r} needs at least one value")
    if operator in {"exists", "absent"} and values:
        raise ValueError(f"{operator} of {key!r} takes no values")
    for value in values:
        if operator in {"gt", "lt"}:
            fault = "" if _NUMBER.fullmatch(value) else f"{value!r} is no whole number"
        else:
            fault = names.label_value_fault(value)
        if fault:
            raise ValueError(f"value of {key!r}: {fault}")
    return Requirement(key, operator, frozenset(values))


class _Parser:
    """Reads the text form. One token of look-ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._next = 0

    def requirements(self) -> Iterator[Requirement]:
        if not self._tokens:
            return
        while True:
            yield self._one()
            if self._peek() is None:
                return
            self._expect(",")

    def _one(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return _requirement(self._word("a label key"), "absent")
        key = self._word("a label key")
        operator = self._peek()
        if operator is None or operator == ",":
            return _requirement(key, "exists")
        self._take()
        if operator in {"=", "=="}:
            return _requirement(key, "in", (self._value(),))
        if operator == "!=":
            return _requirement(key, "notin", (self._value(),))
        if operator in {">", "<"}:
            return _requirement(key, "gt" if operator == ">" else "lt", (self._word("a whole number"),))
        if operator in {"in", "notin"}:
            return _requirement(key, operator, self._values())
        raise self._fault("an operator", operator)

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        values = [self._value()]
        while self._peek() == ",":
            self._take()
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _value(self) -> str:
        """A value; the empty one is written as nothing."""
        return "" if self._peek() in {None, ",", ")"} else self._word("a value")

    def _word(self, what: str) -> str:
        found = self._take()
        if found is None or (not found[0].isalnum() and found[0] not in "-_./"):
            raise self._fault(what, found)
        return found

    def _expect(self, token: str) -> None:
        found = self._take()
        if found != token:
            raise self._fault(repr(token), found)

    def _peek(self) -> str | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> str | None:
        token = self._peek()
        self._next += 1
        return token

    def _fault(self, expected: str, found: str | None) -> ValueError:
        what = "the end" if found is None else repr(found)
        return ValueError(f"label selector {self._text[:80]!r}: expected {expected}, found {what}")


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One condition on one field: `equal` to `value`, or not. A field that is absent is the empty text."""

    path: str
    equal: bool
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All of `requirements`."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, obj: ReadOnlyObject) -> bool:
        return self.matches_fields(lambda path: field_text(obj, path))

    def matches_fields(self, field: Callable[[str], str]) -> bool:
        """As `matches`, for what is no JSON object: `field` gives the text of a path."""
        return all((field(each.path) == each.value) is each.equal for each in self.requirements)

    def value_of(self, path: str) -> str | None:
        """The value that `path` must have, or None if it may have several: for finding instead of filtering."""
        return next((each.value for each in self.requirements if each.equal and each.path == path), None)

    def __bool__(self) -> bool:
        return bool(self.requirements)


_FIELD_TERM = re.compile(r"((?:\\.|[^\\=!,])+)(==|!=|=)((?:\\.|[^\\=,])*)")


@remembered(entries=1024, length_max=REMEMBERED_LENGTH_MAX)
def parse_field_selector(text: str) -> FieldSelector:
    r"""`metadata.name=x,metadata.namespace!=y`; `\,`, `\=` and `\\` stand for themselves.

    Raises:
        ValueError: it is no field selector, or longer than anybody needs.
    """
    _check_length(text)
    return FieldSelector(_some(_field_requirements(text)))


def _field_requirements(text: str) -> Iterator[FieldRequirement]:
    position = 0
    while position < len(text):
        match = _FIELD_TERM.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise ValueError(f"expected a field selector such as metadata.name=x, found {text[:80]!r}")
        yield FieldRequirement(match[1].strip(), match[2] != "!=", re.sub(r"\\(.)", r"\1", match[3]))
        position = match.end() + 1


def _check_length(text: str) -> None:
    if len(text) > _LENGTH_MAX:
        raise ValueError(f"a selector may have {_LENGTH_MAX} characters, this has {len(text)}")


def _some(requirements: Iterator[T]) -> tuple[T, ...]:
    """Those of a selector; reads no more of it than it may have."""
    found = tuple(islice(requirements, REQUIREMENTS_MAX + 1))
    if len(found) > REQUIREMENTS_MAX:
        raise ValueError(f"a selector may have {REQUIREMENTS_MAX} requirements, this has more")
    return found


def field_text(obj: ReadOnlyObject, path: str) -> str:
    """The value at a dotted path as field selectors compare it; absent and null are empty, booleans lower-case."""
    value = value_at(obj, path)
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
