"""How results look: text, tables, JSON, YAML. Everything here goes to stdout, except what `talk` says.

Invariant: nothing that another has written, such as an agent's exception, steers the terminal. So all output of the
commands goes through here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from choregos.foundation.terminal import printable, printable_json

Format = Literal["table", "wide", "json", "yaml", "name"]

GAP = 3
"""Blanks between two columns, as kubectl has them."""


def talk(text: str) -> None:
    """Says something to the person, on stderr: never part of the result."""
    print(printable(text), file=sys.stderr, flush=True)


def show(text: str, *, flush: bool = True) -> None:
    """Prints text for people."""
    print(printable(text), flush=flush)


def show_log_line(line: str, *, flush: bool) -> None:
    """Prints a line of an agent's log: to a program as it is, to a person as text."""
    print(printable(line) if sys.stdout.isatty() else line, flush=flush)


def print_json(value: Any) -> None:
    print(printable_json(json.dumps(value, indent=2, ensure_ascii=False)), flush=True)


def print_yaml(value: Any) -> None:
    print(yaml_text(value), end="", flush=True)


def yaml_text(value: Any) -> str:
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Text of several lines, such as a traceback, as a block that can be read."""

    def represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Dumper.add_representer(str, represent_text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**9))


class TablePrinter:
    """Prints rows under a heading; keeps its columns' widths, so that rows that come later line up."""

    def __init__(self, headings: Sequence[str], indent: str = "") -> None:
        self._indent = indent
        self._headings = [heading.upper() for heading in headings]
        self._widths = [len(heading) for heading in self._headings]
        self._begun = False

    def rows(self, rows: Iterable[Sequence[Any]]) -> None:
        texts = [[_cell(value) for value in row] for row in rows]
        for row in texts:
            self._widths = [max(width, len(text)) for width, text in zip(self._widths, row, strict=True)]
        lines = [self._line(row) for row in texts]
        if not self._begun:
            self._begun = True
            lines.insert(0, self._line(self._headings))
        show("\n".join(lines))

    def _line(self, texts: Sequence[str]) -> str:
        padded = [text.ljust(width + GAP) for text, width in zip(texts, self._widths, strict=True)]
        return self._indent + "".join(padded).rstrip()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, indent: str = "") -> None:
    TablePrinter(headings, indent).rows(rows)


def print_objects(objects: Sequence[Mapping[str, Any]], format: Format, *, single: bool) -> None:
    """Objects as JSON or YAML: one by itself, several as a `v1 List`; without `managedFields`, as kubectl has it."""
    shown = [_without_managed_fields(each) for each in objects]
    document: Any = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": shown}
    if single:
        document = shown[0]
    (print_yaml if format == "yaml" else print_json)(document)


def _without_managed_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in (document.get("metadata") or {}).items() if name != "managedFields"}
    return {**document, "metadata": metadata}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # A cell is one line, whatever a message holds.
    return printable(" ".join(str(value).split("\n")).strip())
