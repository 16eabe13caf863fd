"""The registry, and what every kind must offer: columns that never fail, a schema that explains every field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from choregos.resources import registry
from choregos.resources.kind import Kind
from choregos.resources.kinds.agent import AGENT
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentnode import AGENTNODE
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.kinds.controllerrevision import CONTROLLERREVISION
from choregos.resources.kinds.event import EVENT
from choregos.resources.kinds.namespace import NAMESPACE
from choregos.resources.kinds.projected.metrics import POD_METRICS
from choregos.resources.kinds.projected.node import NODE
from choregos.resources.kinds.projected.pod import POD
from choregos.resources.schema import COMPONENTS, INT_OR_STRING, QUANTITY, openapi_schema

EACH_KIND = pytest.mark.parametrize("kind", registry.KINDS, ids=lambda kind: kind.kind)


def test_a_cluster_is_served_in_its_group_and_in_the_core() -> None:
    assert registry.by_plural("choregos.dev", "v1", "agentclusters") is AGENTCLUSTER
    assert registry.by_plural("", "v1", "agentclusters") is AGENTCLUSTER
    assert registry.by_kind("v1", "AgentCluster") is AGENTCLUSTER
    assert registry.by_kind("choregos.dev/v1", "AgentCluster") is AGENTCLUSTER
    assert registry.group_versions(AGENTCLUSTER) == (("choregos.dev", "v1"), ("", "v1"))


def test_what_is_not_served_is_not_found() -> None:
    assert registry.by_plural("", "v1", "agentsets") is None
    assert registry.by_plural("choregos.dev", "v2", "agentsets") is None
    assert registry.by_kind("v1", "Namespaces") is None
    assert registry.by_resource("pods") is None


def test_words_and_plurals_are_unambiguous() -> None:
    kinds = [kind for kind in registry.KINDS if kind.group != "metrics.k8s.io"]
    words = [word for kind in kinds for word in {kind.plural, kind.singular, *kind.short_names}]
    assert len(words) == len(set(words))
    assert all(registry.by_resource(kind.plural) is kind for kind in registry.KINDS if not kind.is_projected)


def test_metrics_share_their_words_with_what_they_measure_as_in_kubernetes() -> None:
    assert registry.by_plural("", "v1", "pods") is POD
    assert registry.by_plural("metrics.k8s.io", "v1beta1", "pods") is POD_METRICS


@EACH_KIND
def test_every_place_of_a_kind_serves_it(kind: Kind) -> None:
    for place in registry.group_versions(kind):
        assert kind in registry.SERVED[place]


@EACH_KIND
@pytest.mark.parametrize(
    "obj",
    [
        {"metadata": {}},
        {"metadata": {"name": "x"}, "spec": None, "status": None},
        {"metadata": {"name": "x", "creationTimestamp": "yesterday"}, "spec": {}, "status": {"conditions": []}},
    ],
)
def test_cells_of_an_unfinished_object_do_not_fail(kind: Kind, obj: dict[str, Any]) -> None:
    json.dumps([column.cell(obj, 0) for column in kind.columns])


NOW_MS = 1_700_000_000_000
META = {"name": "x", "creationTimestamp": "2023-11-14T22:08:20Z"}


def cells(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    return {column.name: column.cell({"metadata": META, **obj}, NOW_MS) for column in kind.columns}


def test_the_columns_of_a_cluster() -> None:
    conditions = [{"type": "Ready", "status": "False", "reason": "AgentsNotReady", "message": "3 of 4"}]
    sets = [{"name": "a", "region": "us"}, {"name": "b", "region": "eu"}, {"name": "c", "region": "us"}]
    status = {"agents": 4, "readyAgents": 3, "sets": sets, "conditions": conditions}
    assert cells(AGENTCLUSTER, {"status": status}) == {
        "Name": "x",
        "Ready": "3/4",
        "Agents": 4,
        "Sets": 3,
        "Status": "AgentsNotReady",
        "Age": "5m",
        "Regions": "eu,us",
        "Message": "3 of 4",
    }


def test_the_columns_of_a_set() -> None:
    spec = {"replicas": 5, "region": "us", "template": {"capabilities": ["nlp", "chat"]}}
    status = {
        "readyReplicas": 1,
        "updatedReplicas": 2,
        "availableReplicas": 3,
        "pendingReplicas": 4,
        "selector": "a=b",
        "conditions": [{"type": "Ready", "status": "False", "reason": "Unschedulable", "message": "no room"}],
    }
    assert cells(AGENTSET, {"spec": spec, "status": status}) == {
        "Name": "x",
        "Desired": 5,
        "Ready": 1,
        "Up-To-Date": 2,
        "Available": 3,
        "Pending": 4,
        "Status": "Unschedulable",
        "Region": "us",
        "Age": "5m",
        "Capabilities": "nlp,chat",
        "Selector": "a=b",
        "Message": "no room",
    }


def test_the_columns_of_a_revision() -> None:
    owners = [
        {"apiVersion": "v1", "kind": "Other", "name": "o"},
        {"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "name": "s", "controller": True},
    ]
    columns = {"Name": "x", "Controller": "agentset.choregos.dev/s", "Revision": 3, "Age": "5m"}
    assert cells(CONTROLLERREVISION, {"metadata": {**META, "ownerReferences": owners}, "revision": 3}) == columns
    assert cells(CONTROLLERREVISION, {"revision": 3}) == {**columns, "Controller": "<none>"}


def test_the_columns_of_an_agent() -> None:
    spec = {"set": "s", "node": "n", "capabilities": ["nlp"], "templateDigest": "0123"}
    message = "Traceback (most recent call last):\n  …\nImportError: no module m\n"
    status = {"phase": "BackOff", "reason": "ImportFailed", "ready": False, "restarts": 2, "message": message}
    assert cells(AGENT, {"spec": spec, "status": status}) == {
        "Name": "x",
        "Ready": "False",
        "Status": "BackOff/ImportFailed",
        "Restarts": 2,
        "Node": "n",
        "Age": "5m",
        "Host": "<none>",
        "Set": "s",
        "Capabilities": "nlp",
        "Template": "0123",
        "Message": "ImportError: no module m",
    }


@pytest.mark.parametrize(
    ("metadata", "status", "shown"),
    [
        ({}, {"phase": "Running", "reason": "Started"}, "Running"),
        ({}, {"phase": "Pending", "reason": "Unschedulable"}, "Pending/Unschedulable"),
        ({}, {}, "Pending"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"phase": "Running"}, "Terminating"),
    ],
)
def test_the_status_of_an_agent_in_one_word(metadata: dict[str, Any], status: dict[str, Any], shown: str) -> None:
    assert cells(AGENT, {"metadata": metadata, "status": status})["Status"] == shown


def test_the_columns_of_a_node() -> None:
    status = {
        "agents": 7,
        "allocatable": {"cpu": "2", "memory": "8Gi"},
        "allocated": {"cpu": "500m"},
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"hostname": "h", "choregosVersion": "0.1"},
    }
    assert cells(AGENTNODE, {"spec": {"region": "us", "unschedulable": True}, "status": status}) == {
        "Name": "x",
        "Status": "Ready,SchedulingDisabled",
        "Agents": 7,
        "CPU": "500m/2",
        "Memory": "8Gi",
        "GPU": "",
        "Region": "us",
        "Age": "5m",
        "Version": "0.1",
        "Host-Name": "h",
    }


def test_the_columns_of_a_namespace() -> None:
    assert cells(NAMESPACE, {"status": {"phase": "Active"}})["Status"] == "Active"
    assert cells(NAMESPACE, {"metadata": {**META, "deletionTimestamp": "x"}})["Status"] == "Terminating"


def test_the_columns_of_an_event_are_those_kubectl_prints() -> None:
    event = {
        "involvedObject": {"kind": "AgentSet", "name": "s"},
        "type": "Warning",
        "reason": "Unschedulable",
        "message": "no node has room",
        "source": {"component": "region", "host": "n"},
        "firstTimestamp": "2023-11-14T22:08:20Z",
        "lastTimestamp": "2023-11-14T22:13:10Z",
        "count": 3,
    }
    assert cells(EVENT, event) == {
        "Last Seen": "10s",
        "Type": "Warning",
        "Reason": "Unschedulable",
        "Object": "agentset/s",
        "Source": "region, n",
        "Message": "no node has room",
        "First Seen": "5m",
        "Count": 3,
        "Name": "x",
    }


def test_the_columns_of_a_pod_are_those_kubectl_prints() -> None:
    ended = {"exitCode": 1, "reason": "ImportFailed", "finishedAt": "2023-11-14T22:13:10Z"}
    waiting = {"state": {"waiting": {"reason": "ImportFailed"}}, "lastState": {"terminated": ended}, "restartCount": 3}
    pod = {"spec": {"nodeName": "n"}, "status": {"phase": "Running", "containerStatuses": [waiting]}}
    assert cells(POD, pod) == {
        "Name": "x",
        "Ready": "0/1",
        "Status": "ImportFailed",
        "Restarts": "3 (10s ago)",
        "Age": "5m",
        "IP": "<none>",
        "Node": "n",
        "Nominated Node": "<none>",
        "Readiness Gates": "<none>",
    }


@pytest.mark.parametrize(
    ("metadata", "status", "shown"),
    [
        ({}, {"phase": "Running", "containerStatuses": [{"state": {"running": {}}, "ready": True}]}, "1/1 Running"),
        (
            {},
            {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Stopped"}}}]},
            "0/1 Stopped",
        ),
        ({}, {"phase": "Pending", "reason": "OutOfCapacity"}, "0/1 OutOfCapacity"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"phase": "Running"}, "0/1 Terminating"),
    ],
)
def test_the_status_of_a_pod_in_one_word(metadata: dict[str, Any], status: dict[str, Any], shown: str) -> None:
    row = cells(POD, {"metadata": metadata, "status": status})
    assert f"{row['Ready']} {row['Status']}" == shown


def test_the_columns_of_a_node_are_those_kubectl_prints() -> None:
    labels = {"node-role.kubernetes.io/gpu": "", "node-role.kubernetes.io/edge": "", "zone": "a"}
    information = {
        "kubeletVersion": "0.1",
        "osImage": "Debian",
        "kernelVersion": "6",
        "containerRuntimeVersion": "python://3",
    }
    status = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": information}
    node = {"metadata": {**META, "labels": labels}, "spec": {"unschedulable": True}, "status": status}
    assert list(cells(NODE, node).values()) == [
        *("x", "Ready,SchedulingDisabled", "edge,gpu", "5m", "0.1"),
        *("<none>", "<none>", "Debian", "6", "python://3"),
    ]


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from parts(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key], f"{path}[]")


@EACH_KIND
def test_every_field_of_a_schema_is_described(kind: Kind) -> None:
    schema = openapi_schema(kind, kind.group, kind.version)
    assert [path for path, part in parts(schema) if not path.endswith("[]") and not part.get("description")] == []


OPENAPI_WORDS = {
    "type",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minimum",
    "minItems",
    "maximum",
    "exclusiveMinimum",
    "minLength",
    "maxLength",
    "maxItems",
    "maxProperties",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "allOf",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-group-version-kind",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
}


@EACH_KIND
def test_a_schema_holds_only_what_openapi_3_0_knows(kind: Kind) -> None:
    for path, part in parts(openapi_schema(kind, kind.group, kind.version)):
        assert set(part) <= OPENAPI_WORDS, path
        assert part.get("exclusiveMinimum", True) is True, path
        for reference in part.get("allOf", ()):
            assert reference["$ref"].removeprefix("#/components/schemas/") in COMPONENTS, path


def test_a_schema_names_the_group_it_is_served_under() -> None:
    schema = openapi_schema(AGENTCLUSTER, "", "v1")
    assert schema["x-kubernetes-group-version-kind"] == [{"group": "", "version": "v1", "kind": "AgentCluster"}]
    assert schema["required"] == ["spec"]


def test_the_resources_of_an_agent_read_well() -> None:
    schema = openapi_schema(AGENTCLUSTER, "choregos.dev", "v1")
    agent = schema["properties"]["spec"]["properties"]["agents"]["items"]["properties"]
    cpu = agent["resources"]["properties"]["cpu"]
    assert cpu["allOf"] == [{"$ref": f"#/components/schemas/{QUANTITY}"}]
    assert cpu["default"] == "10m"
    assert "`500m` is half a core" in cpu["description"]
    surge = agent["strategy"]["properties"]["maxSurge"]
    assert surge["allOf"] == [{"$ref": f"#/components/schemas/{INT_OR_STRING}"}]
    assert agent["settings"]["x-kubernetes-preserve-unknown-fields"] is True
    assert agent["isolation"]["enum"] == ["shared", "dedicated"]
