"""What importing costs: a worker must not load what it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "pydantic",
    "nats",
    "httpcore",
    "starlette",
    "uvicorn",
    "rich",
    "cyclopts",
    "yaml",
    "cryptography",
    "choregos.store",
)


def loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(output.split())


@pytest.mark.parametrize(
    "statement",
    [
        "from choregos import Agent, capability",
        "from choregos.sdk.binding import bind, describe",
        "import choregos.mesh.caller, choregos.messaging.calls, choregos.messaging.backends.nats",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    loaded = loaded_after(statement)
    assert [name for name in HEAVY if name in loaded] == []


def test_the_package_itself_imports_nothing() -> None:
    assert {name for name in loaded_after("import choregos") if name.startswith("choregos.")} == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    import choregos

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        choregos.Nothing  # noqa: B018
    assert choregos.errors.NoAgent.code == "NoAgent"
