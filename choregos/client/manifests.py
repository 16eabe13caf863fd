"""Manifests: files and folders of YAML or JSON as objects that know where they were written.

Invariant: every fault is `Invalid` with file and line, and found in a time that the length of the text bounds. Checks
only what is needed to send an object; the server checks the rest, and `Manifest.line_of` finds the lines that its
answer speaks of.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from choregos.foundation.bounded_yaml import ManifestLoader
from choregos.foundation.errors import Invalid, NotFound

SUFFIXES = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"
FILE_BYTES_MAX = 16 * 1024 * 1024
"""Of one source: five times what the server takes for one object."""

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object and where it was written.

    Attributes:
        content: the object, as it is sent.
        file: for people; `standard input` if it came from there.
        line: of the document's first line, from 1.
    """

    content: dict[str, Any]
    file: str
    line: int
    node: yaml.Node | None = field(default=None, repr=False, compare=False)

    def line_of(self, path: str) -> int:
        """The line of a field, by a path such as `spec.agents[2].resources.cpu`; of its nearest ancestor, if absent."""
        node = self.node
        line = self.line
        for key, index in _STEP.findall(path):
            if isinstance(node, yaml.MappingNode) and key:
                pair = next(((k, v) for k, v in node.value if k.value == key), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
                node = node.value[int(index)]
                line = node.start_mark.line + 1
            else:
                break
        return line


def load_manifests(sources: Sequence[str]) -> list[Manifest]:
    """The objects of files, folders (their `*.yaml`, `*.yml`, `*.json`, by name) and `-`, in that order.

    Lists are taken apart: `kind: List` and those of one kind, such as `ConfigMapList`.

    Raises:
        NotFound: a source does not exist.
        Invalid: one cannot be read, or is no object; with file and line.
    """
    manifests = [manifest for source in sources for manifest in _load_source(source)]
    if not manifests:
        raise Invalid(f"there are no objects in {', '.join(sources)}")
    return manifests


def parse_manifests(text: bytes, file: str) -> Iterator[Manifest]:
    """The objects of one text; `file` is what it is called in messages.

    Raises:
        Invalid: it cannot be read; with file and line.
    """
    try:
        loader = ManifestLoader(text)
        while loader.check_node():
            node = loader.get_node()
            content = loader.construct_document(node)
            if node is not None and content is not None:
                yield from _objects(content, node, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else file
        raise Invalid(f"{where}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count(b"\n") + 1
        raise Invalid(f"{file}:{line}: this is no text: {error.reason}, found {error.character:#x}") from error


def _load_source(source: str) -> Iterator[Manifest]:
    if source == STANDARD_INPUT:
        yield from parse_manifests(_bounded(sys.stdin.buffer, "standard input"), "standard input")
        return
    path = Path(source)
    if not path.exists():
        raise NotFound(f"the file {source} does not exist")
    files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise Invalid(f"the folder {source} holds no {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
    for file in files:
        try:
            with file.open("rb") as stream:
                text = _bounded(stream, str(file))
        except OSError as error:
            raise Invalid(f"{file} cannot be read: {error.strerror}") from error
        yield from parse_manifests(text, str(file))


def _bounded(stream: BinaryIO, name: str) -> bytes:
    text = stream.read(FILE_BYTES_MAX + 1)
    if len(text) > FILE_BYTES_MAX:
        line = text.count(b"\n") + 1
        raise Invalid(f"{name}:{line}: manifests of more than {FILE_BYTES_MAX // 2**20} MiB are not read; divide them")
    return text


def _objects(content: Any, node: yaml.Node, file: str) -> Iterator[Manifest]:
    line = node.start_mark.line + 1
    if (
        isinstance(content, dict)
        and isinstance(content.get("items"), list)
        and str(content.get("kind")).endswith("List")
    ):
        items = next(value for key, value in node.value if key.value == "items")
        # An API server leaves out what every item of a typed list has.
        kind = str(content["kind"]).removesuffix("List")
        common = {"apiVersion": content.get("apiVersion"), "kind": kind} if kind else {}
        for item, item_node in zip(content["items"], items.value, strict=True):
            yield from _objects({**common, **item} if isinstance(item, dict) else item, item_node, file)
        return
    _require_object(content, f"{file}:{line}")
    yield Manifest(content, file, line, node)


def _require_object(content: Any, where: str) -> None:
    if not isinstance(content, dict):
        raise Invalid(
            f"{where}: an object with apiVersion, kind and metadata was expected, not {type(content).__name__}"
        )
    for key in ("apiVersion", "kind"):
        if not isinstance(content.get(key), str) or not content[key]:
            raise Invalid(f"{where}: {key} is missing")
    metadata = content.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise Invalid(f"{where}: metadata.name is missing")
