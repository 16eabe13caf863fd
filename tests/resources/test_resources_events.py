"""Events: stable names, counting, and messages of bounded length."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.resources import events, names
from choregos.resources.kinds.event import EVENT
from choregos.resources.selectors import parse_field_selector
from choregos.resources.validation import validate

T0, T1 = 1_700_000_000_000, 1_700_000_060_000
AGENT = events.reference("Agent", "support-conversation-0", namespace="team", uid="u1")


def failed(message: str, now_ms: int = T0, involved: dict[str, Any] = AGENT) -> dict[str, Any]:
    return events.new_event(
        involved, "StartFailed", message, now_ms=now_ms, component="node", type=events.WARNING, host="n1"
    )


def test_an_event_says_what_happened_to_whom() -> None:
    event = failed("boom")
    assert event["involvedObject"] == {
        "apiVersion": "choregos.dev/v1",
        "kind": "Agent",
        "namespace": "team",
        "name": "support-conversation-0",
        "uid": "u1",
    }
    assert event["metadata"]["namespace"] == "team"
    assert event["source"] == {"component": "node", "host": "n1"}
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2023-11-14T22:13:20Z"
    assert validate(EVENT, event).unknown_fields == ()
    assert validate(EVENT, event).object == event


def test_the_same_thing_again_is_the_same_event_counted() -> None:
    first, second = failed("attempt 1", T0), failed("attempt 2", T1)
    assert first["metadata"]["name"] == second["metadata"]["name"]
    again = events.repeated(first, second)
    assert (again["count"], again["message"]) == (2, "attempt 2")
    assert again["firstTimestamp"] == first["firstTimestamp"]
    assert again["lastTimestamp"] == second["lastTimestamp"]
    assert first["count"] == 1


TRACEBACK = """Traceback (most recent call last):
  File "/srv/agents/desk.py", line {line}, in on_start
    raise ValueError(self)
ValueError: <desk.Desk object at 0x{address:x}>
"""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("kept the event loop for 10.0 s", "kept the event loop for 9.97 s", True),
        ("worker vm-bcdfg ended: killed by SIGSEGV", "worker vm-x2y4z ended: killed by SIGSEGV", True),
        ("worker vm-bcdfg ended: killed by SIGSEGV", "worker vm-bcdfg ended: killed by SIGKILL", False),
        ("ended with status 3", "ended with status 4", False),
        ("killed by signal 40", "killed by signal 41", False),
        ("created 1 agent", "created 4 agent", True),
        (TRACEBACK.format(line=7, address=1), TRACEBACK.format(line=7, address=2), True),
        (TRACEBACK.format(line=7, address=1), TRACEBACK.format(line=9, address=1), False),
        ("no such order: alice", "no such order: bob", False),
    ],
)
def test_messages_that_differ_in_figures_and_names_have_the_same_cause(one: str, other: str, same: bool) -> None:
    assert (failed(one)["metadata"]["name"] == failed(other)["metadata"]["name"]) is same


def test_another_reason_object_or_reporter_is_another_event() -> None:
    recreated = events.reference("Agent", "support-conversation-0", namespace="team", uid="u2")
    others = [
        failed("boom", involved=recreated),
        events.new_event(AGENT, "Blocked", "boom", now_ms=T0, component="node", type=events.WARNING, host="n1"),
        events.new_event(AGENT, "StartFailed", "boom", now_ms=T0, component="region", type=events.WARNING),
        events.new_event(AGENT, "StartFailed", "boom", now_ms=T0, component="node", host="n1"),
    ]
    event_names = {event["metadata"]["name"] for event in [failed("boom"), *others]}
    assert len(event_names) == 5


def test_events_of_objects_without_a_namespace_are_in_default() -> None:
    node = {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "metadata": {"name": "n1", "uid": "u"}}
    event = events.new_event(events.reference_to(node), "NodeReady", "", now_ms=T0, component="region")
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]


@given(
    st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True).filter(
        lambda n: not names.subdomain_fault(n)
    )
)
def test_the_name_of_an_event_is_valid(name: str) -> None:
    event = events.new_event(events.reference("AgentNode", name), "R", "", now_ms=T0, component="c")
    assert names.subdomain_fault(event["metadata"]["name"]) == ""


@given(st.text(max_size=300), st.integers(40, 200))
def test_a_long_message_loses_its_middle(message: str, length_max: int) -> None:
    short = events.shortened(message, length_max)
    assert len(short) <= length_max
    if len(message) > length_max:
        assert message.startswith(short.partition("\n… cut …\n")[0]) or "…" in message
        assert short.endswith(message[-1])
    else:
        assert short == message


NODE = events.reference("AgentNode", "box")


@pytest.mark.parametrize(
    ("selector", "involved", "found"),
    [
        (
            "involvedObject.kind=Pod,involvedObject.apiVersion=v1,involvedObject.name=support-conversation-0",
            AGENT,
            True,
        ),
        ("involvedObject.kind=Pod,involvedObject.uid=u2", AGENT, False),
        ("involvedObject.kind=Node,involvedObject.name=box,involvedObject.uid=box", NODE, True),
        ("involvedObject.kind=Node,involvedObject.name=box,involvedObject.uid=u1", NODE, False),
        ("involvedObject.kind=Pod", NODE, False),
        ("involvedObject.kind=Agent,involvedObject.apiVersion=v1", AGENT, False),
        ("involvedObject.kind!=Pod", AGENT, True),
        ("involvedObject.name=box", NODE, True),
    ],
)
def test_events_of_what_is_shown_are_those_of_what_it_shows(
    selector: str, involved: dict[str, Any], found: bool
) -> None:
    event = events.new_event(involved, "R", "", now_ms=T0, component="c")
    assert events.as_recorded(parse_field_selector(selector)).matches(event) is found


def test_a_message_is_text_within_its_bound() -> None:
    event = events.new_event(AGENT, "StartFailed", "\x1b" * 5000, now_ms=T0, component="node")
    assert event["message"].startswith("\\x1b\\x1b")
    assert len(event["message"]) <= events.MESSAGE_LENGTH_MAX
