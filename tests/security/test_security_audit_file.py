from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from choregos.foundation.errors import Temporary
from choregos.security.backends import audit_file
from choregos.security.backends.audit_file import AuditFile


def lines(path: Path) -> list[Any]:
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def test_each_event_is_a_line_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(path)
    for number in range(3):
        audit.write({"n": number})
    assert lines(path) == [0, 1, 2]
    assert path.stat().st_mode & 0o777 == 0o600
    audit.close()
    AuditFile(path).write({"n": 3})
    assert lines(path) == [0, 1, 2, 3]


def test_files_are_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    audit = AuditFile(tmp_path / "a", file_bytes_max=20, files_max=3)
    for number in range(10, 20):
        audit.write({"n": number})
    # A line has nine bytes, so two fit into a file.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.1", "a.2"]
    assert [lines(tmp_path / name) for name in ("a.2", "a.1", "a")] == [[14, 15], [16, 17], [18, 19]]


def test_two_writers_share_a_file_and_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a"
    writers = [AuditFile(path, file_bytes_max=45, files_max=9) for _ in range(2)]
    for number in range(10, 40):
        writers[number % 2].write({"n": number})
    files = [path, *(path.with_name(f"a.{number}") for number in range(1, 7))]
    assert [number for file in reversed(files) if file.exists() for number in lines(file)] == list(range(10, 40))


def test_a_removed_file_is_made_anew(tmp_path: Path) -> None:
    audit = AuditFile(tmp_path / "a")
    audit.write({"n": 1})
    (tmp_path / "a").unlink()
    audit.write({"n": 2})
    assert lines(tmp_path / "a") == [2]


def test_an_event_larger_than_a_file_is_kept_all_the_same(tmp_path: Path) -> None:
    audit = AuditFile(tmp_path / "a", file_bytes_max=5)
    audit.write({"n": "long" * 10})
    audit.write({"n": 2})
    assert lines(tmp_path / "a") == [2]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(Temporary, match="cannot be written: No such file or directory"):
        AuditFile(tmp_path / "nowhere" / "a").write({"n": 1})


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = AuditFile(tmp_path / "a")
    audit.write({"n": 1})
    whole = audit_file.os.write
    monkeypatch.setattr(audit_file.os, "write", lambda descriptor, data: whole(descriptor, data[:3]))
    with pytest.raises(Temporary, match="No space left"):
        audit.write({"n": 2})
    monkeypatch.undo()
    audit.write({"n": 3})
    assert lines(tmp_path / "a") == [1, 3]
