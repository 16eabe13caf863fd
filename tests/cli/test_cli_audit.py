from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choregos.cli.exit_codes import ExitCode

Choregos = Callable[..., Any]


def event(number: int, code: int | None, user: str = "eve", **more: Any) -> str:
    found: dict[str, Any] = {
        "requestReceivedTimestamp": f"2026-11-22T10:00:{number:02}.000000Z",
        "user": {"username": user},
        "verb": "get",
        "requestURI": "/x",
        "objectRef": {"resource": "secrets", "namespace": "team", "name": f"s{number}"},
        "annotations": {"authorization.k8s.io/decision": "forbid" if code == 403 else "allow"},
        **more,
    }
    if code is not None:
        found["responseStatus"] = {"code": code, **({"message": "no role"} if code == 403 else {})}
    return json.dumps(found) + "\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    logs = tmp_path / "data" / "logs"
    logs.mkdir(parents=True)
    (logs / "audit.jsonl.10").write_text(event(1, 403))
    (logs / "audit.jsonl.9").write_text(event(2, None) + event(2, 200, "adam", impersonatedUser={"username": "eve"}))
    (logs / "audit.jsonl").write_text(event(3, 403, "adam") + event(4, 401, user="", objectRef=None))
    return tmp_path / "data"


def test_the_record_is_printed_oldest_first(choregos: Choregos, data: Path) -> None:
    lines = choregos("audit", "--data-dir", str(data)).out.splitlines()
    assert lines[0].split() == ["TIME", "USER", "VERB", "WHAT", "CODE", "MESSAGE"]
    assert [line.split("  ")[0][-10:-8] for line in lines[1:]] == ["01", "02", "03", "04"]
    assert "eve" in lines[1]
    assert "secrets team/s1" in lines[1]
    assert "no role" in lines[1]
    assert "adam as eve" in lines[2]
    assert "/x" in lines[4]


def test_what_stands_for_many_says_for_how_many(choregos: Choregos, data: Path) -> None:
    annotations = {"authorization.k8s.io/decision": "forbid", "choregos.dev/repeated": "64"}
    (data / "logs" / "audit.jsonl").write_text(event(5, 403, annotations=annotations))
    assert choregos("audit", "--data-dir", str(data)).out.rstrip().endswith("(64 times) no role")


def test_what_was_refused_and_what_was_done_are_one_record_in_order_of_time(choregos: Choregos, data: Path) -> None:
    (data / "logs" / "audit-refused.jsonl.1").write_text(event(0, 403) + event(2, 401, user=""))
    (data / "logs" / "audit-refused.jsonl").write_text(event(5, 403) + event(3, 403))

    def times(*options: str) -> list[str]:
        events = choregos("audit", "--data-dir", str(data), "-o", "json", *options).json
        return [each["requestReceivedTimestamp"][17:19] for each in events]

    assert times() == ["00", "01", "02", "02", "03", "03", "04", "05"]
    assert times("--tail", "3") == ["03", "04", "05"]
    (data / "logs" / "audit.jsonl").unlink()
    assert times("--tail", "1") == ["05"]


def test_it_is_narrowed_by_decision_user_and_number(choregos: Choregos, data: Path) -> None:
    def numbers(*options: str) -> list[int]:
        events = choregos("audit", "--data-dir", str(data), "-o", "json", *options).json
        return [int(each["requestReceivedTimestamp"][17:19]) for each in events]

    assert numbers("--refused") == [1, 3]
    assert numbers("--user", "adam") == [2, 3]
    assert numbers("--tail", "1") == [4]
    assert choregos("audit", "--data-dir", str(data), "--user", "nobody").err == "Nothing of that kind is recorded.\n"


def test_no_record_and_a_damaged_one_are_told(choregos: Choregos, data: Path, tmp_path: Path) -> None:
    missing = choregos("audit", "--data-dir", str(tmp_path / "elsewhere"))
    assert missing.code == ExitCode.NOT_FOUND
    (data / "logs" / "audit.jsonl").write_text("{half")
    assert "cannot be read" in choregos("audit", "--data-dir", str(data)).err
