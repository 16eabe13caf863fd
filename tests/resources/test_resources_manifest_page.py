"""The manifest reference names every field with its default, and its examples are valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from choregos.resources import registry
from choregos.resources.schema import openapi_schema
from choregos.resources.validation import validate

PAGE = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: yaml.safe_load(text)["kind"])
def test_an_example_is_valid_and_nothing_is_said_against_it(text: str) -> None:
    manifest = yaml.safe_load(text)
    kind = registry.by_kind(manifest["apiVersion"], manifest["kind"])
    assert kind is not None
    valid = validate(kind, manifest)
    assert valid.unknown_fields == ()
    assert [warning for warning in valid.warnings if not warning.startswith("spec.orchestrator: stored")] == []


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, default) of every field in a schema."""
    for name, child in schema.get("properties", {}).items():
        yield name, child.get("default")
        yield from fields(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from fields(schema[key])


CHOREGOS_KINDS = [kind for kind in registry.KINDS if kind.group == "choregos.dev"]
NAMED = set(re.findall(r"[A-Za-z_]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))


@pytest.mark.parametrize("kind", CHOREGOS_KINDS, ids=lambda kind: kind.kind)
def test_every_field_is_on_the_page(kind: Any) -> None:
    schema = openapi_schema(kind, kind.group, kind.version)
    parts = ["spec"] if kind.kind == "AgentCluster" else ["spec", "status"]
    missing = {name for part in parts for name, _ in fields(schema["properties"][part])} - NAMED
    # Parts of a condition are Kubernetes' own.
    assert missing <= {"type", "status", "reason", "message", "lastTransitionTime", "observedGeneration"}


def test_every_default_is_on_the_page() -> None:
    spec = openapi_schema(registry.KINDS[0], "choregos.dev", "v1")["properties"]["spec"]
    for name, default in fields(spec):
        if default is None or default in ([], {}):
            continue
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        row = re.search(rf"^\|[^|\n]*`[\w.\[\]]*{name}`[^|\n]*\|([^|\n]*)\|", PAGE, re.MULTILINE)
        assert row, name
        assert f"`{shown}`" in row[1], f"{name}: {shown} is not in {row[1]!r}"
