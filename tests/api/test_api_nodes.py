from __future__ import annotations

from typing import Any

import pytest

from choregos.api.projections.nodes import node
from choregos.resources import validation
from choregos.resources.kinds.projected.node import NODE

NODES, AGENT_NODES = "/api/v1/nodes", "/apis/choregos.dev/v1/agentnodes"
STATUS = {
    "capacity": {"cpu": "2", "memory": "8Gi", "gpu": "1", "agents": "50k"},
    "allocatable": {"cpu": "1900m", "memory": "7Gi", "gpu": "1", "agents": "50k"},
    "allocated": {"cpu": "10m"},
    "nodeInfo": {
        "hostname": "box",
        "architecture": "x86_64",
        "operatingSystem": "linux",
        "osImage": "Debian",
        "kernelVersion": "6.1",
        "pythonVersion": "3.12.4",
        "choregosVersion": "0.1",
        "bootID": "b",
    },
    "conditions": [{"type": "Ready", "status": "True", "reason": "NodeReady", "observedGeneration": 1}],
}


@pytest.fixture
async def n1(world: Any) -> Any:
    """An AgentNode with a status, as its node writes it."""
    manifest = {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "metadata": {"name": "n1"}, "spec": {}}
    made = (await world.client.post(AGENT_NODES, manifest)).json
    stored = await world.client.put(f"{AGENT_NODES}/n1/status", {**made, "status": STATUS})
    assert stored.code == 200, stored.json
    return world


async def stored(world: Any) -> Any:
    return (await world.client.get(f"{AGENT_NODES}/n1")).json


def test_a_node_shows_what_its_agentnode_has() -> None:
    agent_node = {"metadata": {"name": "n1"}, "spec": {"region": "us", "unschedulable": True}, "status": STATUS}
    shown = node(agent_node)
    assert shown["spec"] == {"unschedulable": True}
    assert shown["status"]["capacity"] == {"cpu": "2", "memory": "8Gi", "choregos.dev/gpu": "1", "pods": "50k"}
    assert shown["status"]["addresses"] == [{"type": "Hostname", "address": "box"}]
    information = shown["status"]["nodeInfo"]
    assert information["architecture"] == "amd64"
    assert information["containerRuntimeVersion"] == "python://3.12.4"
    assert shown["status"]["conditions"] == [{"type": "Ready", "status": "True", "reason": "NodeReady"}]
    assert not validation.validate(NODE, shown).unknown_fields


def test_a_condition_of_a_node_says_when_it_was_last_judged() -> None:
    since = "2026-11-22T10:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "NodeReady", "lastTransitionTime": since}
    shown = node({"metadata": {"name": "n1"}, "spec": {"region": "us"}, "status": {**STATUS, "conditions": [ready]}})
    assert shown["status"]["conditions"] == [{**ready, "lastHeartbeatTime": since}]
    assert not validation.validate(NODE, shown).unknown_fields


async def test_the_status_of_a_node_can_be_read_and_not_written(n1: Any) -> None:
    read = await n1.client.get(f"{NODES}/n1/status")
    assert (read.code, read.json) == (200, (await n1.client.get(f"{NODES}/n1")).json)
    assert (await n1.client.patch(f"{NODES}/n1/status", {"status": {}})).code == 405
    assert (await n1.client.get(f"{NODES}/none/status")).code == 404


def test_a_node_that_has_not_written_its_status_yet_is_shown_too() -> None:
    shown = node({"metadata": {"name": "n1"}, "spec": {"region": "us"}})
    assert shown["status"]["conditions"] == []
    assert not validation.validate(NODE, shown).unknown_fields


async def test_nodes_are_listed_watched_and_selected(n1: Any) -> None:
    async with n1.client.stream(NODES, watch="true", labelSelector="zone=a") as stream:
        await n1.client.patch(f"{NODES}/n1", {"metadata": {"labels": {"zone": "a"}}})
        event = await stream.line()
    assert (event["type"], event["object"]["kind"]) == ("ADDED", "Node")
    listed = (await n1.client.get(NODES, labelSelector="zone=a", fieldSelector="spec.unschedulable=false")).json
    assert (listed["kind"], len(listed["items"])) == ("NodeList", 1)
    assert (await n1.client.get(f"{NODES}/none")).json["message"] == 'nodes "none" not found'


@pytest.mark.parametrize("kind", ["merge-patch+json", "strategic-merge-patch+json"])
async def test_cordon_and_uncordon_write_the_agentnode(n1: Any, kind: str) -> None:
    reply = await n1.client.patch(f"{NODES}/n1", {"spec": {"unschedulable": True}}, kind)
    assert (reply.code, reply.json["kind"], reply.json["spec"]) == (200, "Node", {"unschedulable": True})
    assert (await stored(n1))["spec"] == {"region": "local", "unschedulable": True}
    reply = await n1.client.patch(f"{NODES}/n1", {"spec": {"unschedulable": None}}, kind)
    assert (await stored(n1))["spec"] == {"region": "local"}
    assert (await stored(n1))["status"]["allocatable"] == STATUS["allocatable"]


@pytest.mark.parametrize("kind", ["merge-patch+json", "strategic-merge-patch+json"])
async def test_taints_are_replaced_as_a_whole(n1: Any, kind: str) -> None:
    for effect in ("NoSchedule", "NoExecute"):
        taints = [{"key": "dedicated", "value": "gpu", "effect": effect}]
        assert (await n1.client.patch(f"{NODES}/n1", {"spec": {"taints": taints}}, kind)).code == 200
        assert (await stored(n1))["spec"]["taints"] == taints
    assert (await n1.client.patch(f"{NODES}/n1", {"spec": {"taints": None}}, kind)).code == 200
    assert "taints" not in (await stored(n1))["spec"]


async def test_json_patches_and_puts_are_of_the_node_as_it_is_shown(n1: Any) -> None:
    operations = [
        {"op": "test", "path": "/status/capacity/pods", "value": "50k"},
        {"op": "add", "path": "/metadata/annotations", "value": {"note": "x"}},
    ]
    assert (await n1.client.patch(f"{NODES}/n1", operations, "json-patch+json")).code == 200
    seen = (await n1.client.get(f"{NODES}/n1")).json
    seen["spec"] = {"unschedulable": True}
    seen["status"] = {"capacity": {"cpu": "1000"}}
    replaced = await n1.client.put(f"{NODES}/n1", seen)
    assert replaced.json["status"]["capacity"]["cpu"] == "2"
    assert (await stored(n1))["metadata"]["annotations"] == {"note": "x"}
    assert (await n1.client.put(f"{NODES}/n1", seen)).code == 409


@pytest.mark.parametrize(
    ("patch", "code", "said"),
    [
        ({"spec": {"podCIDR": "10.0.0.0/8"}}, 422, "spec.podCIDR"),
        ({"spec": {"region": "elsewhere"}}, 422, "spec.region"),
        ({"spec": {"taints": [{"key": "a", "effect": "Never"}]}}, 422, "spec.taints[0].effect"),
        ({"metadata": {"name": "n2"}}, 400, "name"),
        ({"metadata": {"labels": {"a b": "c"}}}, 422, "metadata.labels"),
        ({"kind": "Pod"}, 400, "expected a Node"),
        ({"spec": []}, 400, "spec"),
        ([], 400, "object"),
    ],
)
async def test_a_write_that_makes_no_sense_is_refused(n1: Any, patch: Any, code: int, said: str) -> None:
    before = await stored(n1)
    reply = await n1.client.patch(f"{NODES}/n1", patch)
    assert reply.code == code, reply.json
    assert said in reply.json["message"]
    assert await stored(n1) == before


async def test_directives_of_a_strategic_patch_are_obeyed(n1: Any) -> None:
    await n1.client.patch(f"{NODES}/n1", {"spec": {"unschedulable": True}})
    taints = [{"key": "a", "effect": "NoSchedule"}]
    patch = {"spec": {"$patch": "replace", "taints": taints}}
    assert (await n1.client.patch(f"{NODES}/n1", patch, "strategic-merge-patch+json")).code == 200
    assert (await stored(n1))["spec"] == {"region": "local", "taints": taints}


async def test_a_dry_run_of_a_node_changes_nothing(n1: Any) -> None:
    before = await stored(n1)
    reply = await n1.client.patch(f"{NODES}/n1", {"spec": {"unschedulable": True}}, dryRun="All")
    assert reply.json["spec"] == {"unschedulable": True}
    assert await stored(n1) == before


async def test_nodes_are_not_made_or_removed_here_and_the_answer_says_where(n1: Any) -> None:
    assert "its machine makes" in (await n1.client.post(NODES, {})).json["message"]
    reply = await n1.client.delete(f"{NODES}/n1")
    assert (reply.code, "delete the AgentNode" in reply.json["message"]) == (405, True)
