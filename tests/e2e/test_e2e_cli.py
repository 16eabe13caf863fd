"""The command line against a real machine, without kubectl: results on stdout, talk on stderr, telling exit codes."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest
from e2e_machine import BIN, PATIENCE_S, MakeUp, UpProcess, as_yaml, cluster, wait_for

pytestmark = pytest.mark.real

FOUND, FAILED, USAGE, NOT_FOUND, TIMED_OUT, INVALID, UNREACHABLE = 0, 1, 2, 3, 4, 5, 7


@pytest.fixture(scope="module", autouse=True)
def desk(machine: UpProcess) -> None:
    """Two agents that do what they are asked."""
    text = as_yaml(cluster("desk", machine.template("worker", "Worker", 2, labels={"tier": "gold"})))
    assert machine.choregos("apply", "-f", "-", given=text).code == 0
    waited = machine.choregos("wait", "agentcluster", "desk", "--for=condition=Ready", "--timeout", "60s")
    assert waited.code == 0, waited.err


def test_a_life_without_kubectl(machine: UpProcess):
    text = as_yaml(cluster("life", machine.template("worker", "Worker", 2)))
    assert machine.choregos("apply", "-f", "-", given=text).out == "agentcluster.choregos.dev/life created\n"
    assert machine.choregos("wait", "agentcluster/life", "--for=condition=Ready", "--timeout=60s").code == 0
    assert machine.choregos("scale", "agentset", "life-worker", "--replicas", "3").code == 0
    goal = "--for=jsonpath={.status.readyReplicas}=3"
    assert machine.choregos("wait", "agentset/life-worker", goal, "--timeout=60s").code == 0
    agents = json.loads(machine.choregos("get", "agents", "-l", "choregos.dev/cluster=life", "-o", "json").out)
    assert [agent["metadata"]["name"] for agent in agents["items"]] == [f"life-worker-{n}" for n in range(3)]
    assert "AllAgentsReady" in machine.choregos("describe", "agentcluster", "life").out
    wide = machine.choregos("get", "agentclusters,agentsets,agents,agentnodes", "-o", "wide").out
    assert "life-worker-2" in wide
    deleted = machine.choregos("delete", "agentcluster", "life")
    assert deleted.code == 0
    assert machine.choregos("get", "agentcluster", "life").code == NOT_FOUND
    assert "life" not in machine.choregos("get", "agents", "-o", "name").out
    events = machine.choregos("events").out
    for reason in ("SuccessfulCreate", "Ready", "SuccessfulDelete"):
        assert reason in events


def test_a_call_by_name_by_capability_and_by_label(machine: UpProcess):
    called = machine.choregos("call", "desk-worker-0", "add", '{"left": 2, "right": 3}')
    assert (called.code, called.out) == (0, "5\n")
    assert "desk-worker-0 answered in" in called.err
    found = machine.choregos("call", "--capability", "work", "--selector", "tier=gold", "echo", '{"text": "ä"}')
    assert (found.code, json.loads(found.out)) == (0, "ä")
    assert json.loads(machine.choregos("call", "desk-worker-0", "echo", "-", given='{"text": "in"}').out) == "in"


def test_an_unknown_method_lists_the_methods_there_are(machine: UpProcess):
    called = machine.choregos("call", "desk-worker-0", "subtract")
    assert (called.code, called.out) == (INVALID, "")
    assert "MethodNotFound" in called.err
    for method in ("add", "echo", "fail"):
        assert method in called.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [('{"left": 2, "right": "three"}', "right"), ('{"left": 2}', "right"), ('{"left": 2, "right": 3, "up": 1}', "up")],
)
def test_wrong_arguments_are_named(machine: UpProcess, arguments: str, named: str):
    called = machine.choregos("call", "desk-worker-0", "add", arguments)
    assert (called.code, called.out) == (INVALID, "")
    assert "InvalidArguments" in called.err
    assert named in called.err


def test_what_is_too_large_is_refused_in_both_directions(machine: UpProcess):
    question = machine.choregos("call", "desk-worker-0", "echo", "-", given=json.dumps({"text": "x" * 2_000_000}))
    assert question.code == INVALID
    answer = machine.choregos("call", "desk-worker-0", "enlarge", '{"length": 2000000}')
    assert answer.code == INVALID
    assert "PayloadTooLarge" in answer.err
    for refused in (question, answer):
        assert "1" in refused.err
        assert "Traceback" not in refused.err
    assert machine.choregos("call", "desk-worker-0", "add", '{"left": 1, "right": 1}').out == "2\n"


def test_an_agent_that_raises_shows_its_own_traceback(machine: UpProcess):
    called = machine.choregos("call", "desk-worker-0", "fail")
    assert (called.code, called.out) == (FAILED, "")
    assert "HandlerFailed" in called.err
    assert "the order is not in the book" in called.err
    assert "witness.py" in called.err
    assert "in fail" in called.err


def test_nobody_to_call_and_no_time(machine: UpProcess):
    assert machine.choregos("call", "nobody-0", "add").code == NOT_FOUND
    assert machine.choregos("call", "--capability", "flying", "fly").code == NOT_FOUND
    note = '{"note": "no-time"}'
    assert machine.choregos("call", "desk-worker-0", "wait_to_be_cancelled", note, "--timeout", "1s").code == TIMED_OUT
    wait_for(lambda: (machine.places / "no-time").read_text() == "cancelled", "the method is cancelled")


def test_waiting_in_vain_says_how_it_is(machine: UpProcess):
    waited = machine.choregos("wait", "agentcluster/desk", "--for=condition=Ready=False", "--timeout=1s")
    assert waited.code == TIMED_OUT
    assert "2 of 2 agents take calls" in waited.err


@contextlib.contextmanager
def following(machine: UpProcess, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    path = machine.places / "followed"
    with path.open("wb") as output:
        process = subprocess.Popen([str(BIN / argv[0]), *argv[1:]], env=machine.environment, stdout=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_logs_are_followed(machine: UpProcess):
    def say(text: str) -> None:
        assert machine.choregos("call", "desk-worker-1", "say", json.dumps({"text": text})).code == 0

    say("before")
    with following(machine, "choregos", "logs", "-f", "desk-worker-1"):
        log = machine.places / "followed"
        wait_for(lambda: "said: before" in log.read_text(), "what was said before is shown")
        say("after")
        wait_for(lambda: "said: after" in log.read_text(), "what is said now is shown")
    tail = machine.choregos("logs", "desk-worker-1", "--tail", "1").out
    assert "said: after" in tail
    assert "said: before" not in tail


def test_events_are_watched(machine: UpProcess):
    with following(machine, "choregos", "events", "-w"):
        log = machine.places / "followed"
        assert machine.choregos("scale", "agentset", "desk-worker", "--replicas", "3").code == 0
        wait_for(lambda: "created 1 agent" in log.read_text(), "the event is shown")
        assert machine.choregos("scale", "agentset", "desk-worker", "--replicas", "2").code == 0
        wait_for(lambda: "SuccessfulDelete" in log.read_text(), "the event is shown")


def test_ctrl_c_ends_a_command_at_once(machine: UpProcess):
    with following(machine, "choregos", "get", "agents", "-w") as process:
        wait_for(lambda: "desk-worker-0" in (machine.places / "followed").read_text(), "agents are shown")
        process.send_signal(2)
        assert process.wait(PATIENCE_S) == 130


def test_the_doctor_finds_a_healthy_machine_in_order(machine: UpProcess):
    goal = "--for=jsonpath={.status.readyReplicas}=2"
    assert machine.choregos("wait", "agentset/desk-worker", goal, "--timeout=60s").code == 0

    def healthy() -> bool:
        return machine.choregos("doctor").code == 0

    wait_for(healthy, "the doctor is content")
    found = json.loads(machine.choregos("doctor", "-o", "json").out)
    assert {finding["level"] for finding in found} == {"ok"}, found


def test_the_doctor_tells_of_a_sick_machine(make_up: MakeUp):
    up = make_up()
    nothing = up.choregos("doctor")
    assert "choregos up" in nothing.out
    up.start()
    broken = cluster("broken", up.template("agent", "does_not_import:Agent", 1))
    assert up.choregos("apply", "-f", "-", given=as_yaml(broken)).code == 0
    wait_for(lambda: "ImportFailed" in up.choregos("doctor").out, "the doctor sees the agent that fails")
    assert "ZeroDivisionError" in up.choregos("doctor").out
    (up.root / "pki" / "user-admin.pem").chmod(0o644)
    up.only("api").suspend()
    sick = up.choregos("doctor")
    assert sick.code == 1
    assert "FAIL  API server" in sick.out
    assert "user-admin.pem" in sick.out
    assert "→" in sick.out
    up.only("api").resume()
    up.stop()
    stopped = up.choregos("get", "agents")
    assert stopped.code == UNREACHABLE
    assert "choregos up" in stopped.err
