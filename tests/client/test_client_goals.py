"""What `wait` waits for: the words of kubectl, and a state that can be told when the time is over."""

from __future__ import annotations

from typing import Any

import pytest

from choregos.client.goals import parse_goal
from choregos.foundation.errors import Invalid


def conditions(status: str = "True", observed: int = 1, generation: int = 1, **more: Any) -> dict[str, Any]:
    entry = {"type": "Ready", "status": status, "observedGeneration": observed, **more}
    return {"metadata": {"generation": generation}, "status": {"conditions": [entry]}}


@pytest.mark.parametrize(
    ("words", "obj", "met"),
    [
        ("condition=Ready", conditions(), True),
        ("condition=ready", conditions(), True),
        ("condition=Ready=true", conditions(), True),
        ("condition=Ready", conditions("False"), False),
        ("condition=Ready=False", conditions("False"), True),
        ("condition=Ready", conditions(observed=1, generation=2), False),
        ("condition=Other", conditions(), False),
        ("condition=Ready", {"status": None}, False),
        ("condition=Ready", None, False),
        ("delete", None, True),
        ("delete", {}, False),
        ("create", {}, True),
        ("create", None, False),
        ("jsonpath={.status.phase}=Running", {"status": {"phase": "Running"}}, True),
        ("jsonpath='{.status.phase}'=Running", {"status": {"phase": "Running"}}, True),
        ("jsonpath=.status.phase=Running", {"status": {"phase": "Pending"}}, False),
        ("jsonpath={.status.ready}=true", {"status": {"ready": True}}, True),
        ("jsonpath={.status.n}=3", {"status": {"n": 3}}, True),
        ("jsonpath={.status.list[1].x}=a", {"status": {"list": [{}, {"x": "a"}]}}, True),
        ("jsonpath={.status.list[5]}=a", {"status": {"list": []}}, False),
        ("jsonpath={.status.host}", {"status": {"host": "w"}}, True),
        ("jsonpath={.status.host}", {"status": {}}, False),
        ("jsonpath={.status.host}", None, False),
    ],
)
def test_goals(words: str, obj: Any, met: bool) -> None:
    assert parse_goal(words).met(obj) is met


@pytest.mark.parametrize("words", ["", "ready", "condition=", "condition", "jsonpath=", "deleted"])
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(Invalid, match="cannot wait for"):
        parse_goal(words)


@pytest.mark.parametrize(
    ("words", "obj", "state"),
    [
        (
            "condition=Ready",
            conditions("False", reason="Starting", message="2 of 3"),
            "Ready is False (Starting: 2 of 3)",
        ),
        ("condition=Ready", {}, "it has no condition Ready yet"),
        ("condition=Ready", None, "it does not exist"),
        ("jsonpath={.status.phase}=Running", {"status": {"phase": "BackOff"}}, ".status.phase is BackOff"),
        ("jsonpath={.status.phase}=Running", {}, ".status.phase is not set"),
        ("delete", {"metadata": {"finalizers": ["a/b"]}}, "it still exists, held by a/b"),
    ],
)
def test_the_state_instead(words: str, obj: Any, state: str) -> None:
    assert parse_goal(words).state(obj) == state
