from __future__ import annotations

from typing import Any

import pytest

from choregos.api.node_ports import AgentUse, Use
from choregos.api.projections.metrics import node_metrics, pod_metrics
from choregos.resources import validation
from choregos.resources.kinds.projected.metrics import NODE_METRICS, POD_METRICS

METRICS = "/apis/metrics.k8s.io/v1beta1"
PODS, NODES = f"{METRICS}/namespaces/default/pods", f"{METRICS}/nodes"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.fixture
async def some(world: Any) -> Any:
    """Three agents on a node that answers, one on a silent one, one on none; both nodes."""
    await world.start_agents(3)
    await world.start_agents(1, agent_set="far", node="gone")
    await world.start_agents(1, agent_set="idle", node="", ready=False)
    for name in ("n1", "gone"):
        manifest = {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "metadata": {"name": name}, "spec": {}}
        await world.client.post("/apis/choregos.dev/v1/agentnodes", manifest)
    return world


async def test_pods_are_measured_and_those_that_are_not_are_left_out(some: Any) -> None:
    reply = await some.client.get(PODS)
    assert [item["metadata"]["name"] for item in reply.json["items"]] == ["web-0", "web-1", "web-2"]
    item = reply.json["items"][0]
    assert item["containers"] == [{"name": "agent", "usage": {"cpu": "250m", "memory": "3072Ki"}}]
    assert (item["timestamp"], item["window"]) == ("1970-01-01T00:01:00Z", "15.000s")
    assert "an even part of worker w1, which 4 agents share" in item["metadata"]["annotations"].values()
    assert reply.header("warning") == ['299 - "node gone does not say what is used of it"']
    assert (await some.client.get(f"{METRICS}/pods")).json["kind"] == "PodMetricsList"


async def test_only_what_is_selected_is_measured(some: Any) -> None:
    await some.client.get(PODS, labelSelector="choregos.dev/set=web", fieldSelector="metadata.name=web-1")
    assert some.usage.asked == ["web-1"]
    some.usage.asked.clear()
    page = (await some.client.get(PODS, limit=2)).json
    assert len(some.usage.asked) == 2
    rest = (await some.client.get(PODS, **{"continue": page["metadata"]["continue"]})).json
    assert len(page["items"]) + len(rest["items"]) == 3


async def test_one_is_measured_or_not_found(some: Any) -> None:
    assert (await some.client.get(f"{PODS}/web-1")).json["kind"] == "PodMetrics"
    for name in ("far-0", "idle-0", "none"):
        reply = await some.client.get(f"{PODS}/{name}")
        assert (reply.code, reply.json["message"]) == (404, f'pods.metrics.k8s.io "{name}" not found')
    assert (await some.client.get(f"{NODES}/n1")).json["usage"] == {"cpu": "1500m", "memory": "2097152Ki"}
    assert (await some.client.get(f"{NODES}/gone")).code == 404


async def test_nodes_are_measured_and_tables_made(some: Any) -> None:
    reply = await some.client.get(NODES)
    assert [item["metadata"]["name"] for item in reply.json["items"]] == ["n1"]
    assert reply.header("warning")
    rows = (await some.client.get(NODES, accept=TABLE)).json["rows"]
    assert rows[0]["cells"] == ["n1", "1500m", "2097152Ki", "15.000s"]
    rows = (await some.client.get(PODS, accept=TABLE, labelSelector="choregos.dev/set=web")).json["rows"]
    assert [row["cells"] for row in rows] == [[f"web-{n}", "250m", "3072Ki", "15.000s"] for n in range(3)]


async def test_measurements_are_read_only_and_cannot_be_watched(some: Any) -> None:
    assert (await some.client.get(PODS, watch="true")).code == 405
    assert (await some.client.delete(f"{PODS}/web-0")).code == 405
    assert (await some.client.post(PODS, {})).code == 405


async def test_metrics_are_valid_by_their_own_schema(world: Any) -> None:
    await world.start_agents(1)
    instance = world.context.directory.get("default", "web-0")
    use = Use(0.0001, 5_000, 12.3456, 7_000)
    for agents, handling in ((1, False), (3, False), (3, True)):
        document = pod_metrics(instance, AgentUse(use, "w", agents, handling))
        assert handling == ("by how long it handled calls" in str(document["metadata"].get("annotations")))
        assert not validation.validate(POD_METRICS, document).unknown_fields
        assert ("annotations" in document["metadata"]) is (agents > 1)
        assert document["containers"][0]["usage"]["cpu"] == "1m"
    document = node_metrics({"metadata": {"name": "n1"}}, use)
    assert not validation.validate(NODE_METRICS, document).unknown_fields
