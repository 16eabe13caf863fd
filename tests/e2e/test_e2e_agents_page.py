"""The page for authors, followed to the letter: its agent is tested and run with what it says, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_machine import UpProcess

pytestmark = pytest.mark.real

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
ARTICLE = "A refund takes five days."


def commands(page: str) -> list[str]:
    """The lines of its shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With the files of the page, and an article."""
    for name, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert {file.name for file in tmp_path.iterdir()} == {"knowledge.py", "test_knowledge.py", "fleet.yaml"}
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "returns.txt").write_text(ARTICLE)
    return tmp_path


def test_its_test_passes_with_the_plug_ins_it_names(directory: Path):
    named = re.search(r"`pip install pytest ([^`]*)`", PAGE.read_text(encoding="utf-8"))
    plug_ins = [word for name in named[1].split() for word in ("-p", name.removeprefix("pytest-"))] if named else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plug_ins],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.fixture
def cleared(machine: UpProcess) -> Iterator[None]:
    yield
    machine.choregos("delete", "agentcluster/support")


def test_its_fleet_answers_as_it_says(machine: UpProcess, directory: Path, cleared: None):
    up, *others = commands(PAGE.read_text(encoding="utf-8"))
    assert up == "choregos up"
    # The machine of these tests was started elsewhere, and /srv is not ours.
    manifest = directory / "fleet.yaml"
    text = manifest.read_text(encoding="utf-8")
    for written, ours in {'path: "."': f'path: "{directory}"', "/srv/articles": str(directory / "articles")}.items():
        assert written in text
        text = text.replace(written, ours)
    manifest.write_text(text, encoding="utf-8")
    said = ""
    for command in others:
        done = subprocess.run(
            command,
            shell=True,
            env=machine.environment,
            capture_output=True,
            text=True,
            cwd=directory,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout
    assert json.loads(said) == [{"article": "returns", "text": ARTICLE}]
