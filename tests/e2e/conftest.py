"""One running machine for each module; tests take clusters of their own on it, and take them away again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from e2e_machine import MakeUp, UpProcess

from choregos.client import Client


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """A running `choregos up` with more declared capacity than any test needs."""
    place = tmp_path_factory.mktemp("machine")
    up = UpProcess(place / "data", place / "notes")
    try:
        up.start()
        yield up
        up.stop()
    finally:
        up.kill_all()


@pytest.fixture
async def client(machine: UpProcess) -> AsyncIterator[Client]:
    async with machine.client() as client:
        yield client


@pytest.fixture
def make_up(tmp_path: Path) -> Iterator[MakeUp]:
    """Makes further machines, not started; whatever is left of them at the end is killed."""
    made: list[UpProcess] = []

    def make(name: str = "data", *arguments: str, root: Path | None = None, **options: object) -> UpProcess:
        notes = tmp_path / f"{name}-notes"
        made.append(UpProcess(root or tmp_path / name, notes, *arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for up in made:
        up.kill_all()
