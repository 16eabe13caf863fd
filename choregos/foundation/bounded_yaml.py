"""YAML whose nesting and aliases are bounded: what is short to write is not long to read.

libyaml takes minutes for 300,000 brackets, overflows the stack while it makes nodes of them, and lets an alias that
costs two bytes stand for gigabytes. So nodes are composed here, from libyaml's events one by one, and the first event
beyond a bound ends it. Invariant: what has been composed is at most `DEPTH_MAX` deep, and its aliases stand for at most
`ALIASED_SIZE_MAX` in all, so whoever takes it apart, or encodes it, needs no bound of its own.

Does not bound the text itself: who reads it knows how much there may be.

`ManifestLoader` reads scalars and keys as kubectl does (YAML 1.1 of go-yaml), so that a file means the same to it, to
our clients and to the server: `no` is false, `012` is ten, `1e3` a number, a date is text, keys are text, and numbers
that JSON cannot say are text. Stricter than kubectl: a key given twice, of which it takes the last, is an error.
"""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar

from yaml import CSafeLoader
from yaml.composer import Composer, ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

DEPTH_MAX = 100
"""Lists and objects within one another; manifests have about ten."""

ALIASED_SIZE_MAX = 4 * 1024 * 1024
"""What all aliases of a document may stand for: characters of scalars, and one for each value. The API server takes no
request that is longer than that."""


VALUES_MAX = 10_000_000
"""Values of a document, those within others included. Whoever expects less has a loader of his own say so."""

_TAG = "tag:yaml.org,2002:"
_SHOWN_LENGTH_MAX = 40
_INTEGERS = range(-(2**63), 2**63)

_BOOLEANS = {
    word: value for value, words in ((True, "y yes true on"), (False, "n no false off")) for word in words.split()
}


class BoundedLoader(Composer, CSafeLoader):
    """Composes in Python what libyaml has parsed; raises `ComposerError` at the place where a bound is passed.

    An anchor may be given again, and means the latest from then on (YAML 1.2.2, 7.1), as for kubectl.
    """

    values_max: ClassVar[int] = VALUES_MAX

    def __init__(self, stream: str | bytes) -> None:
        CSafeLoader.__init__(self, stream)
        Composer.__init__(self)
        self._depth = 0
        self._values = 0
        self._size = 0
        self._aliased_size = 0
        self._sizes: dict[str, int] = {}  # by anchor, once its node is complete

    def compose_document(self) -> Node | None:
        self._depth = self._values = self._size = self._aliased_size = 0
        self._sizes.clear()
        return super().compose_document()

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()
        if isinstance(event, AliasEvent):
            self._add_alias(event)
            return super().compose_node(parent, index)
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _refusal(f"lists and objects are nested deeper than {DEPTH_MAX} levels", event)
        self._values += 1
        if self._values > self.values_max:
            raise _refusal(f"there are more than {self.values_max} values", event)
        self.anchors.pop(event.anchor, None)
        self._sizes.pop(event.anchor, None)
        before = self._size
        node = super().compose_node(parent, index)
        self._size += 1 + (len(node.value) if isinstance(node, ScalarNode) else 0)
        if event.anchor:
            self._sizes[event.anchor] = self._size - before
        self._depth -= 1
        return node

    def _add_alias(self, event: Any) -> None:
        size = self._sizes.get(event.anchor)
        if size is None:
            if event.anchor in self.anchors:
                raise _refusal(f"the alias *{event.anchor} stands within what it stands for", event)
            return  # nobody has that anchor: the composer says so
        self._size += size
        self._aliased_size += size
        if self._aliased_size > ALIASED_SIZE_MAX:
            raise _refusal(f"the aliases up to here stand for more than {ALIASED_SIZE_MAX} characters", event)


def _refusal(why: str, event: Any) -> ComposerError:
    return ComposerError(None, None, why, event.start_mark)


class ManifestLoader(BoundedLoader):
    """libyaml's parser with go-yaml's reading of scalars and keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's protocol)
    # What is not here, such as a set, JSON cannot say. A date is text.
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        None: BoundedLoader.construct_undefined,
        f"{_TAG}null": BoundedLoader.construct_yaml_null,
        f"{_TAG}str": BoundedLoader.construct_yaml_str,
        f"{_TAG}timestamp": BoundedLoader.construct_yaml_str,
        f"{_TAG}seq": BoundedLoader.construct_yaml_seq,
        f"{_TAG}map": BoundedLoader.construct_yaml_map,
    }

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError) as error:
            shown = str(node.value)
            shown = shown if len(shown) <= _SHOWN_LENGTH_MAX else f"{shown[:_SHOWN_LENGTH_MAX]}…"
            tag = node.tag.replace(_TAG, "!!")
            raise ConstructorError(None, None, f"{shown!r} is no {tag}", node.start_mark) from error

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            # Twice `<<` is how two anchors are merged.
            if isinstance(key, ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
                seen.add(key.value)
        mapping = super().construct_mapping(node, deep=deep)
        return {_key(key): value for key, value in mapping.items()}


def _key(key: Any) -> str:
    """JSON's keys are text."""
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    return str(key)


def _construct_boolean(loader: ManifestLoader, node: ScalarNode) -> bool:
    return _BOOLEANS[str(loader.construct_scalar(node)).lower()]


def _construct_integer(loader: ManifestLoader, node: ScalarNode) -> int | float | str:
    written = str(loader.construct_scalar(node))
    text = written.replace("_", "")
    digits = text.lstrip("+-")
    if not digits.isdigit():
        number = int(text, 0)
        return number if number in _INTEGERS else written
    if len(digits) > 1 and digits[0] == "0":
        return int(text, 8)
    return _number(float(text), int(text) if len(digits) < 20 else None, written)


def _construct_float(loader: ManifestLoader, node: ScalarNode) -> int | float | str:
    written = str(loader.construct_scalar(node))
    number = float(written.replace("_", ""))
    # JSON has one kind of number: `1e3` is the integer 1000 to whoever reads it.
    return _number(number, int(number) if number.is_integer() else None, written)


def _number(number: float, integer: int | None, written: str) -> int | float | str:
    """As Go keeps it: an integer of 64 bits, a float, or text if it is neither."""
    if integer is not None and integer in _INTEGERS:
        return integer
    return number if math.isfinite(number) else written


def _construct_binary(loader: ManifestLoader, node: ScalarNode) -> str:
    return loader.construct_yaml_binary(node).decode()


for _name, _pattern, _first in (
    ("bool", r"y|Y|n|N|(yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)", "yYnNtTfFoO"),
    ("int", r"[-+]?(0b_*[01][01_]*|0o?_*[0-7][0-7_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    ManifestLoader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))
for _name, _construct in (
    ("bool", _construct_boolean),
    ("int", _construct_integer),
    ("float", _construct_float),
    ("binary", _construct_binary),
):
    ManifestLoader.add_constructor(f"{_TAG}{_name}", _construct)
