"""What is particular about the validation of each kind but AgentCluster."""

from __future__ import annotations

from typing import Any

import pytest

from choregos.foundation.errors import Invalid
from choregos.resources.kind import Kind
from choregos.resources.kinds.agentcall import AGENTCALL
from choregos.resources.kinds.agentnode import AGENTNODE
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.kinds.event import EVENT
from choregos.resources.kinds.namespace import NAMESPACE
from choregos.resources.validation import validate


def faults(kind: Kind, obj: Any, **options: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        validate(kind, obj, **options)
    return {cause.path: cause.message for cause in caught.value.causes}


def agent_set(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "spec": {"template": {"name": "t"}, **spec}}


def test_a_set_cannot_move_to_another_region_or_cluster() -> None:
    stored = validate(AGENTSET, agent_set(region="us", cluster="a")).object
    found = faults(AGENTSET, agent_set(region="eu"), previous=stored)
    assert found == {
        "spec.region": "cannot be changed from 'us' to 'eu'",
        "spec.cluster": "cannot be changed from 'a' to nothing",
    }
    assert validate(AGENTSET, agent_set(region="us", cluster="a", replicas=7), previous=stored)


@pytest.mark.parametrize(
    ("toleration", "path"),
    [
        ({}, "operator"),
        ({"operator": "Equal"}, "operator"),
        ({"operator": "Exists", "value": "x"}, "value"),
        ({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}, "tolerationSeconds"),
    ],
)
def test_a_toleration_must_make_sense(toleration: dict[str, Any], path: str) -> None:
    template = {"name": "t", "placement": {"tolerations": [{"operator": "Exists"}, toleration]}}
    assert set(faults(AGENTSET, agent_set(template=template))) == {f"spec.template.placement.tolerations[1].{path}"}


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"operator": "Exists", "value": ""},
        {"key": "a"},
        {"key": "a", "value": "b"},
        {"key": "a", "effect": "NoExecute", "tolerationSeconds": 0},
        {"key": "a", "tolerationSeconds": 5},
    ],
)
def test_a_toleration_that_makes_sense(toleration: dict[str, Any]) -> None:
    template = {"name": "t", "placement": {"tolerations": [toleration]}}
    assert validate(AGENTSET, agent_set(template=template))


@pytest.mark.parametrize("part", [{"env": {"A": "x\0"}}, {"runtime": {"python": "m:C", "path": "/srv\0"}}])
def test_what_the_operating_system_reads_holds_no_nul(part: dict[str, Any]) -> None:
    (message,) = faults(AGENTSET, agent_set(template={"name": "t", **part})).values()
    assert message == "must not hold the character NUL"


@pytest.mark.parametrize("path", ["m", "m:", ":C", "m:C\n", "m-x:C", "a b:C"])
def test_a_class_is_named_by_its_module(path: str) -> None:
    (message,) = faults(AGENTSET, agent_set(template={"name": "t", "runtime": {"python": path}})).values()
    assert message.startswith(
        "expected a class as module:Class, such as support_agents.conversation:Conversation, found"
    )


@pytest.mark.parametrize("name", ["s" * 56, "a.b", "A"])
def test_a_set_name_becomes_part_of_agent_names(name: str) -> None:
    assert "metadata.name" in faults(AGENTSET, {**agent_set(), "metadata": {"name": name}})


def test_a_name_or_a_prefix_for_one_is_required() -> None:
    assert faults(AGENTSET, {**agent_set(), "metadata": {}}) == {"metadata.name": "is required"}
    assert validate(AGENTSET, {**agent_set(), "metadata": {"generateName": "s-"}})


def test_a_node_has_no_namespace() -> None:
    assert faults(AGENTNODE, {"metadata": {"name": "n", "namespace": "default"}}) == {
        "metadata.namespace": "a AgentNode has no namespace"
    }


def tainted(time: Any) -> dict[str, Any]:
    taint = {"key": "k", "effect": "NoExecute", "timeAdded": time}
    return {"metadata": {"name": "n"}, "spec": {"taints": [taint]}}


@pytest.mark.parametrize(
    "time",
    [
        "garbage",
        "",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-02-30T00:00:00Z",
        "20260101T000000Z",
        "2026-01-01T0:00:00Z",
    ],
)
def test_a_time_is_a_time_with_zone(time: str) -> None:
    (path,) = faults(AGENTNODE, tainted(time))
    assert path == "spec.taints[0].timeAdded"


@pytest.mark.parametrize(
    "time",
    ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789Z", "2026-01-01T01:00:00+01:00", "0001-01-01T00:00:00Z"],
)
def test_every_form_of_a_time_is_accepted(time: str) -> None:
    assert validate(AGENTNODE, tainted(time)).object["spec"]["taints"][0]["timeAdded"] == time


def test_a_node_object_as_the_node_writes_it_is_accepted() -> None:
    status = {
        "capacity": {"cpu": "2", "memory": "8Gi", "gpu": "0", "agents": "10k"},
        "allocatable": {"cpu": "2", "memory": "7Gi", "gpu": "0", "agents": "10k"},
        "nodeInfo": {
            "hostname": "h",
            "pid": 7,
            "cores": 2,
            "architecture": "x86_64",
            "operatingSystem": "linux",
            "osImage": "Debian GNU/Linux 12 (bookworm)",
            "kernelVersion": "6.1.0",
            "pythonVersion": "3.11.7",
            "choregosVersion": "0.1",
            "bootID": "b",
        },
        "agents": 3,
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    taint = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    node = {"metadata": {"name": "n"}, "spec": {"taints": [taint], "unschedulable": True}, "status": status}
    valid = validate(AGENTNODE, node)
    assert valid.unknown_fields == ()
    assert valid.object["status"]["nodeInfo"] == status["nodeInfo"]


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({}, {"spec"}),
        ({"agent": "a"}, {"spec.method"}),
        ({"agent": "a", "capability": "c", "method": "m"}, {"spec.capability"}),
        ({"capability": "c", "selector": "a in"}, {"spec.selector"}),
        ({"agent": "a", "method": "m", "selector": "a=b"}, {"spec.selector"}),
        ({"capability": "c", "arguments": [1]}, {"spec.arguments"}),
        ({"capability": "c", "timeoutSeconds": 0}, {"spec.timeoutSeconds"}),
    ],
)
def test_a_call_must_name_whom_to_call(spec: dict[str, Any], paths: set[str]) -> None:
    assert set(faults(AGENTCALL, {"spec": spec})) == paths


def test_a_call_needs_no_name_and_keeps_its_arguments() -> None:
    valid = validate(AGENTCALL, {"spec": {"capability": "c", "arguments": {"text": None, "n": [1, None]}}})
    assert valid.object["spec"] == {
        "capability": "c",
        "arguments": {"text": None, "n": [1, None]},
        "timeoutSeconds": 30,
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "a[1]: nan is no JSON number"),
        (2**70, "a[1]: a whole number has at most 64 bits"),
        ("\ud800", "a[1]: is no Unicode text"),
        ({"b": {5: 1}}, "a[1].b: 5 cannot be a key, keys are Unicode text"),
        ({"\ud800": 1}, "a[1]: '\\ud800' cannot be a key, keys are Unicode text"),
        ({1, 2}, "a[1]: a set is no JSON value"),
    ],
)
def test_free_form_parts_hold_only_what_json_can_say(value: Any, message: str) -> None:
    call = {"spec": {"capability": "c", "arguments": {"a": [0, value]}}}
    assert faults(AGENTCALL, call) == {"spec.arguments": message}


def test_free_form_parts_are_not_nested_without_end() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    call = {"spec": {"capability": "c", "arguments": {"a": value}}}
    assert faults(AGENTCALL, call) == {"spec.arguments": "is nested more than 64 deep"}


def test_a_namespace_is_active() -> None:
    assert validate(NAMESPACE, {"metadata": {"name": "team-a"}}).object["status"] == {"phase": "Active"}
    assert "metadata.name" in faults(NAMESPACE, {"metadata": {"name": "a.b"}})


def test_an_event_of_another_client_is_accepted() -> None:
    event = {
        "metadata": {"name": "x.17a", "namespace": "default"},
        "involvedObject": {"kind": "AgentCluster", "name": "c"},
        "reason": "Logging",
        "message": "hello",
        "type": "Normal",
        "source": {"component": "kopf"},
        "reportingComponent": "kopf",
        "reportingInstance": "dev",
        "action": "Action?",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"},
    }
    assert validate(EVENT, event).unknown_fields == ()
