"""Where code is looked for: relative directories, missing ones, changed files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from choregos.agent.runtimes.python import CannotLoad, PythonRuntime
from choregos.wire.worker import Template

SOURCE = (
    "from choregos import Agent\n\n\nclass Found(Agent):\n    async def greet(self) -> str:\n        return 'hello'\n"
)


@pytest.fixture
def started_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of this process, with a folder `code` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "found_by_path.py").write_text(SOURCE)
    monkeypatch.delitem(sys.modules, "found_by_path", raising=False)
    return tmp_path


def template(path: str) -> Template:
    return Template("d", "t", python="found_by_path:Found", paths=(path,))


def test_a_relative_path_is_one_of_the_directory_at_the_start(started_in: Path) -> None:
    runtime = PythonRuntime()
    os.chdir("/")
    assert runtime.load(template("code")).agent_class.__name__ == "Found"
    file = started_in / "code" / "found_by_path.py"
    assert sys.modules["found_by_path"].__file__ == str(file)
    assert runtime.stale(template("code")) == ""
    os.utime(file, (0, 0))
    assert runtime.stale(template("code")) == str(file)


@pytest.mark.parametrize("path", ["nowhere", "../nowhere", "/no/where"])
def test_a_path_that_does_not_exist_is_told_as_it_was_tried(started_in: Path, path: str) -> None:
    with pytest.raises(CannotLoad, match=f"there is no directory {started_in / path} .*`choregos up` was started"):
        PythonRuntime().load(template(path))
