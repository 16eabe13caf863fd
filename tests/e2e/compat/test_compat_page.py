"""The versions that docs/api.md says are tried are the ones that are."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from real_programs import KUBECTL_VERSIONS, helm, kubectl_of

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


def said(client: str) -> str:
    """The cell beside a client's name."""
    [cell] = re.findall(rf"^\| {re.escape(client)} \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return cell


@pytest.mark.parametrize(
    ("client", "package"), [("kubernetes (Python)", "kubernetes"), ("kopf", "kopf"), ("kr8s", "kr8s")]
)
def test_libraries(client: str, package: str) -> None:
    assert said(client) == version(package)


@pytest.mark.real
def test_programs() -> None:
    found = [output(kubectl_of(each), "version", "--client", "-o", "json") for each in KUBECTL_VERSIONS]
    names = [json.loads(text)["clientVersion"]["gitVersion"].removeprefix("v") for text in found]
    assert said("kubectl") == " and ".join(names)
    assert said("helm") == output(helm(), "version", "--template", "{{.Version}}").removeprefix("v")


def output(program: Path, *argv: str) -> str:
    return subprocess.run([program, *argv], capture_output=True, text=True, check=True, timeout=60).stdout
