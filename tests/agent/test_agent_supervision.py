"""The life of an agent, event by event: what is told and what is asked for. No process, no clock, no die."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.agent.contract import Assignment
from choregos.agent.supervision import (
    FORGET,
    REPORT,
    Assigned,
    Failed,
    Life,
    Lodging,
    Moment,
    Placed,
    ReadyChanged,
    Start,
    StartEnded,
    Stop,
    StopEnded,
    WakeAt,
    Withdrawn,
    Woken,
    WorkerLost,
    step,
)
from choregos.foundation.backoff import Backoff
from choregos.wire.instances import Phase
from choregos.wire.worker import Template

BACKOFF = Backoff(initial_s=1.0, max_s=300.0, jitter=0.0, reset_after_s=600.0)
TEMPLATE = Template("d1", "t", python="m:C")
OTHER = Template("d2", "t", python="m:C")
SHARED, DEDICATED = Start(Lodging.SHARED), Start(Lodging.DEDICATED)

FIRST = Assignment("ns", "a", "u", 1, TEMPLATE)
SECOND = Assignment("ns", "a", "u", 2, TEMPLATE)
RENEWED = Assignment("ns", "a", "u", 3, OTHER)

ASSIGNED = Assigned(FIRST)
PLACED = Placed("w1")
LOST = WorkerLost("blocked", innocent=True)
STARTED = StartEnded(capabilities=("c",))
RUN = [(ASSIGNED, (SHARED,)), (PLACED, (REPORT,)), (STARTED, (REPORT,))]

TABLES = {
    "it starts once, however often it is assigned": [
        (ASSIGNED, (SHARED,)),
        (ASSIGNED, ()),
        (PLACED, (REPORT,)),
        (ASSIGNED, ()),
        (STARTED, (REPORT,)),
        (ASSIGNED, ()),
        Phase.RUNNING,
    ],
    "a failed start is repeated after a delay": [
        (ASSIGNED, (SHARED,)),
        (PLACED, (REPORT,)),
        (StartEnded("ImportFailed", "why"), (REPORT, WakeAt(1.0))),
        Phase.BACKOFF,
        (Woken(), (WakeAt(1.0),)),
        ("at", 1.0),
        (Woken(), (SHARED,)),
        (Woken(), ()),
        (Placed("w2"), (REPORT,)),
        Phase.STARTING,
    ],
    "what nobody provides stays pending and is looked for again": [
        (ASSIGNED, (SHARED,)),
        (PLACED, (REPORT,)),
        (StartEnded("RuntimeNotFound", "how to provide it"), (REPORT, WakeAt(1.0))),
        Phase.PENDING,
        ("at", 1.0),
        (Woken(), (SHARED,)),
        (PLACED, (REPORT,)),
        (StartEnded("RuntimeNotFound", "how to provide it"), (REPORT, WakeAt(3.0))),
        Phase.PENDING,
    ],
    "the delay doubles from failure to failure": [
        *RUN,
        (Failed("ProbeFailed", "why"), (REPORT, WakeAt(1.0))),
        ("at", 1.0),
        (Woken(), (SHARED,)),
        (PLACED, (REPORT,)),
        (StartEnded("StartFailed"), (REPORT, WakeAt(3.0))),
        ("at", 3.0),
        (Woken(), (SHARED,)),
        (PLACED, (REPORT,)),
        (STARTED, (REPORT,)),
        (Failed("ProbeFailed", "why"), (REPORT, WakeAt(7.0))),
        Phase.BACKOFF,
    ],
    "after a long healthy time the delay begins anew": [
        *RUN,
        (Failed("ProbeFailed", "why"), (REPORT, WakeAt(1.0))),
        ("at", 1.0),
        (Woken(), (SHARED,)),
        (PLACED, (REPORT,)),
        (STARTED, (REPORT,)),
        ("at", 700.0),
        (Failed("ProbeFailed", "why"), (REPORT, WakeAt(701.0))),
        Phase.BACKOFF,
    ],
    "a lost worker costs a delay": [
        *RUN,
        (WorkerLost("killed"), (REPORT, WakeAt(1.0))),
        Phase.BACKOFF,
    ],
    "a neighbour of the culprit starts again at once": [
        *RUN,
        (WorkerLost("blocked", innocent=True), (SHARED, REPORT)),
        Phase.PENDING,
        (Placed("w2"), (REPORT,)),
    ],
    "from the third worker within a minute a neighbour waits too": [
        *RUN,
        (LOST, (SHARED, REPORT)),
        (Placed("w2"), (REPORT,)),
        (LOST, (SHARED, REPORT)),
        (Placed("w3"), (REPORT,)),
        ("at", 5.0),
        (LOST, (REPORT, WakeAt(6.0))),
        Phase.BACKOFF,
        ("at", 6.0),
        (Woken(), (SHARED,)),
        (Placed("w4"), (REPORT,)),
        (LOST, (REPORT, WakeAt(8.0))),
        ("at", 8.0),
        (Woken(), (SHARED,)),
        (Placed("w5"), (REPORT,)),
        ("at", 70.0),
        (LOST, (SHARED, REPORT)),
        Phase.PENDING,
    ],
    "the culprit waits and then gets a worker of its own": [
        *RUN,
        (WorkerLost("blocked", blame="Blocked"), (REPORT, WakeAt(1.0))),
        ("at", 1.0),
        (Woken(), (DEDICATED,)),
    ],
    "an interrupted agent keeps its neighbours": [
        *RUN,
        (Failed("Blocked", "stack"), (REPORT, WakeAt(1.0))),
        ("at", 1.0),
        (Woken(), (SHARED,)),
    ],
    "readiness is told when it changes": [
        *RUN,
        (ReadyChanged(True), ()),
        (ReadyChanged(False, "why"), (REPORT,)),
        (ReadyChanged(False, "why"), ()),
        (ReadyChanged(True), (REPORT,)),
        Phase.RUNNING,
    ],
    "that it does not become ready is told too": [
        *RUN[:2],
        (StartEnded(ready=False), (REPORT,)),
        (ReadyChanged(False, "why"), (REPORT,)),
        (ReadyChanged(False, "why"), ()),
        (ReadyChanged(True), (REPORT,)),
        Phase.RUNNING,
    ],
    "withdrawn while it runs it drains first": [
        *RUN,
        (Withdrawn(7.0), (Stop("w1", 7.0), REPORT)),
        Phase.STOPPING,
        (Withdrawn(0.0), (Stop("w1", 0.0),)),
        Phase.STOPPING,
        (StopEnded(), (REPORT, FORGET)),
        Phase.STOPPED,
    ],
    "withdrawn before it has a worker it is forgotten at once": [
        (ASSIGNED, (SHARED,)),
        (Withdrawn(7.0), (REPORT, FORGET)),
        Phase.STOPPED,
    ],
    "withdrawn while it waits it is forgotten at once": [
        *RUN,
        (WorkerLost("killed"), (REPORT, WakeAt(1.0))),
        (Withdrawn(7.0), (REPORT, FORGET)),
        Phase.STOPPED,
    ],
    "a worker lost while it stops has stopped it": [
        *RUN,
        (Withdrawn(7.0), (Stop("w1", 7.0), REPORT)),
        (WorkerLost("killed"), (REPORT, FORGET)),
        Phase.STOPPED,
    ],
    "a start that fails after the stop was sent has stopped it": [
        (ASSIGNED, (SHARED,)),
        (PLACED, (REPORT,)),
        (Withdrawn(7.0), (Stop("w1", 7.0), REPORT)),
        (StartEnded("StartFailed"), (REPORT, FORGET)),
        Phase.STOPPED,
    ],
    "a start that succeeds after the stop was sent is still being stopped": [
        (ASSIGNED, (SHARED,)),
        (PLACED, (REPORT,)),
        (Withdrawn(7.0), (Stop("w1", 7.0), REPORT)),
        (STARTED, ()),
        (StopEnded(), (REPORT, FORGET)),
        Phase.STOPPED,
    ],
    "another binding stops the old one first": [
        *RUN,
        (Assigned(SECOND), (Stop("w1", 30.0), REPORT)),
        (Assigned(SECOND), ()),
        (StopEnded(), (SHARED, REPORT)),
        Phase.PENDING,
    ],
    "the last of several bindings wins": [
        *RUN,
        (Assigned(SECOND), (Stop("w1", 30.0), REPORT)),
        (Assigned(RENEWED), ()),
        (StopEnded(), (SHARED, REPORT)),
        (Assigned(RENEWED), ()),
        Phase.PENDING,
    ],
    "another binding does not wait for the end of a delay": [
        *RUN,
        (Failed("ProbeFailed", "why"), (REPORT, WakeAt(1.0))),
        (Assigned(SECOND), (SHARED, REPORT)),
        ("at", 1.0),
        (Woken(), ()),
        Phase.PENDING,
    ],
    "assigned again while it is being withdrawn it comes back": [
        *RUN,
        (Withdrawn(7.0), (Stop("w1", 7.0), REPORT)),
        (Assigned(FIRST), ()),
        (StopEnded(), (SHARED, REPORT)),
        Phase.PENDING,
    ],
    "withdrawn while it is being replaced it ends": [
        *RUN,
        (Assigned(SECOND), (Stop("w1", 30.0), REPORT)),
        (Withdrawn(7.0), (Stop("w1", 7.0),)),
        (StopEnded(), (REPORT, FORGET)),
        Phase.STOPPED,
    ],
    "new code leaves the quarantine, the same code does not": [
        *RUN,
        (WorkerLost("blocked", blame="Blocked"), (REPORT, WakeAt(1.0))),
        (Assigned(SECOND), (DEDICATED, REPORT)),
        (Assigned(RENEWED), (SHARED, REPORT)),
    ],
    "what comes too late changes nothing": [
        (ASSIGNED, (SHARED,)),
        (STARTED, ()),
        (Failed("ProbeFailed", "why"), ()),
        (StopEnded(), ()),
        (ReadyChanged(False), ()),
        (WorkerLost("killed"), ()),
        Phase.PENDING,
    ],
}


@pytest.mark.parametrize("name", TABLES)
def test_each_event_yields_its_instructions(name):
    life, now_s = Life(FIRST, 0), 0.0
    for row in TABLES[name]:
        if isinstance(row, Phase):
            assert life.phase is row
        elif row[0] == "at":
            now_s = row[1]
        else:
            event, instructions = row
            assert step(life, event, Moment(now_s, 0), BACKOFF) == instructions, event


def test_a_dedicated_agent_wants_a_worker_of_its_own():
    assignment = Assignment("ns", "a", "u", 1, TEMPLATE, dedicated=True)
    life = Life(assignment, 0)
    assert step(life, Assigned(assignment), Moment(0.0, 0), BACKOFF) == (DEDICATED,)


def test_restarts_go_on_from_what_was_counted_elsewhere():
    assignment = Assignment("ns", "a", "u", 1, TEMPLATE, restarts=4)
    life = Life(assignment, 0)
    for now_s, event, restarts in (
        (0.0, Assigned(assignment), 4),
        (0.0, PLACED, 4),
        (0.0, STARTED, 4),
        (0.0, Failed("ProbeFailed", "why"), 4),
        (1.0, Woken(), 4),
        (1.0, PLACED, 5),
        (1.0, STARTED, 5),
        (1.0, LOST, 5),
        (1.0, PLACED, 6),
        (1.0, StartEnded("StartFailed"), 6),
    ):
        step(life, event, Moment(now_s, 0), BACKOFF)
        assert life.status().restarts == restarts, event


def test_the_first_start_on_a_node_that_was_started_again_is_a_restart():
    assignment = Assignment("ns", "a", "u", 1, TEMPLATE, restarts=4, started=True)
    life = Life(assignment, 0)
    for event in (Assigned(assignment), PLACED):
        step(life, event, Moment(0.0, 0), BACKOFF)
    assert life.status().restarts == 5


def test_what_nobody_provides_is_not_restarted_however_often_it_is_looked_for():
    life = Life(FIRST, 0)
    for now_s in range(0, 100, 10):
        for event in (ASSIGNED, Woken(), PLACED, StartEnded("RuntimeNotFound")):
            step(life, event, Moment(now_s, 0), BACKOFF)
    assert life.status().restarts == 0


def test_a_running_agent_tells_where_it_is_and_what_it_can():
    life = Life(FIRST, 0)
    for event in (ASSIGNED, PLACED, STARTED):
        step(life, event, Moment(0.0, 17), BACKOFF)
    status = life.status()
    assert (status.phase, status.ready, status.host) == (Phase.RUNNING, True, "w1")
    assert (status.capabilities, status.since_ms, status.binding) == (("c",), 17, 1)


EVENTS = st.sampled_from(
    [
        ASSIGNED,
        Assigned(SECOND),
        Assigned(RENEWED),
        STARTED,
        StartEnded("StartFailed"),
        Failed("ProbeFailed", "why"),
        ReadyChanged(False),
        ReadyChanged(True),
        Withdrawn(1.0),
        StopEnded(),
        WorkerLost("killed"),
        WorkerLost("blocked", blame="Blocked"),
        WorkerLost("blocked", innocent=True),
        Woken(),
    ]
)


@given(st.lists(st.tuples(EVENTS, st.floats(0.0, 400.0)), max_size=40))
def test_whatever_happens_there_is_one_worker_at_most_and_a_status_only_when_it_changed(events):
    life, now_s, wants = Life(FIRST, 0), 0.0, False
    step(life, ASSIGNED, Moment(0.0, 0), BACKOFF)
    step(life, PLACED, Moment(0.0, 0), BACKOFF)
    for event, pause_s in events:
        now_s += pause_s
        before = life.status()
        instructions = step(life, event, Moment(now_s, 0), BACKOFF)
        wants = wants or any(isinstance(instruction, Start) for instruction in instructions)
        assert not (wants and life.host), "a second worker was asked for"
        if life.status() != before:
            assert REPORT in instructions
        if FORGET in instructions:
            assert life.phase is Phase.STOPPED
            return
        if wants:
            step(life, Placed("w2"), Moment(now_s, 0), BACKOFF)
            wants = False
        assert bool(life.host) == (life.phase in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING))


@pytest.mark.parametrize("reason", ["StartFailed", "RuntimeNotFound"])
def test_what_it_failed_of_stays_in_sight_until_it_has_started(reason: str) -> None:
    life = Life(FIRST, 0)
    for at_s, event in ((0, ASSIGNED), (0, PLACED), (0, StartEnded(reason, "why")), (1, Woken()), (1, PLACED)):
        step(life, event, Moment(at_s, 0), BACKOFF)
    assert (life.phase, life.reason, life.message) == (Phase.STARTING, reason, "why")
    step(life, STARTED, Moment(2, 0), BACKOFF)
    assert (life.phase, life.reason, life.message) == (Phase.RUNNING, "Started", "")
    for event in (LOST, Placed("w2")):
        step(life, event, Moment(3, 0), BACKOFF)
    assert (life.phase, life.reason, life.message) == (Phase.STARTING, "", "")
