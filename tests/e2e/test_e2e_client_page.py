"""Every example of the client's page runs, in the order of the page, and prints what its comments say."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from e2e_machine import UpProcess

pytestmark = pytest.mark.real

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
AGENT, *EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
[MANIFEST] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def program(example: str) -> str:
    """The page leaves out the event loop, as notebooks do."""
    if "async with" not in example:
        return example
    return f"import asyncio\nasync def main():\n{textwrap.indent(example, '    ')}\nasyncio.run(main())\n"


def test_the_examples_do_what_they_say(machine: UpProcess, tmp_path: Path):
    (tmp_path / "greeter.py").write_text(AGENT)
    # The machine was not started in this directory.
    (tmp_path / "fleet.yaml").write_text(MANIFEST.replace("path: .", f"path: {tmp_path}"))
    assert len(EXAMPLES) > 5
    for example in EXAMPLES:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program(example)],
            env=machine.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        promised = re.findall(r"^ *print\(.*\)  # (.*)$", example, re.MULTILINE)
        assert (done.stdout.splitlines(), done.stderr) == (promised, ""), example
