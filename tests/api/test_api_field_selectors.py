"""Field selectors name fields that there are: a misspelt one would select everything with `!=`, for deletion too."""

from __future__ import annotations

from typing import Any

import pytest

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
EVENTS = "/api/v1/namespaces/default/events"
METRICS = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"

MISSPELT = [
    (MAPS, "metadata.nam!=z1", "metadata.nam"),
    (MAPS, "metadata.name!=z1,metdata.name!=z2", "metdata.name"),
    (MAPS, "metadata!=z1", "metadata"),
    (MAPS, "metadata.name.x!=z1", "metadata.name.x"),
    (MAPS, "metadata.managedFields!=z1", "metadata.managedFields"),
    (MAPS, "metadata.labels.example.org/tier!=z1", "metadata.labels.example.org/tier"),
    (MAPS, " !=z1", ""),
    (PODS, "staus.phase!=Running", "staus.phase"),
    (PODS, "status.podIp!=1", "status.podIp"),
    (PODS, "spec.node!=n1", "spec.node"),
    (PODS, "spec.tolerations!=x", "spec.tolerations"),
    (NODES, "spec.unschedulabel!=true", "spec.unschedulabel"),
    (EVENTS, "involvedObject!=x", "involvedObject"),
    (EVENTS, "involvedObject.nam!=x", "involvedObject.nam"),
    (METRICS, "spec.nodName!=n1", "spec.nodName"),
]


@pytest.mark.parametrize(("path", "selector", "field"), MISSPELT)
async def test_a_field_that_there_is_not_is_refused(client: Any, path: str, selector: str, field: str) -> None:
    for query in ({}, {"watch": "true"})[: 1 if path == METRICS else 2]:
        refused = await client.get(path, fieldSelector=selector, **query)
        assert (refused.code, refused.json["reason"]) == (400, "BadRequest")
        assert refused.json["message"] == f"field label not supported: {field}"


async def test_a_selector_with_more_requirements_than_anybody_needs_is_refused(client: Any) -> None:
    for selector in ({"fieldSelector": "metadata.name!=," * 101}, {"labelSelector": ",".join(["a"] * 101)}):
        for query in ({}, {"watch": "true"}):
            refused = await client.get(MAPS, **selector, **query)
            assert (refused.code, "100 requirements" in refused.json["message"]) == (400, True)


async def test_a_misspelt_field_deletes_nothing(world: Any) -> None:
    await world.start_agents(1)
    for name in ("z1", "z2"):
        assert (await world.client.post(MAPS, {"metadata": {"name": name}})).code == 201
    for path, selector in ((MAPS, "metadata.nam!=z1"), (PODS, "staus.phase!=Running")):
        before = (await world.client.get(path)).json["items"]
        assert (await world.client.delete(path, fieldSelector=selector)).code == 400
        assert (await world.client.get(path)).json["items"] == before
    assert (await world.client.delete(MAPS, fieldSelector="metadata.name!=z1")).code == 200
    assert [one["metadata"]["name"] for one in (await world.client.get(MAPS)).json["items"]] == ["z1"]


@pytest.mark.parametrize(
    ("path", "selector"),
    [
        (MAPS, "metadata.namespace=default,metadata.uid!=x,data.key!=x,immutable!=true,metadata.labels.tier!=gold"),
        ("/api/v1/namespaces/default/secrets", "type!=Opaque"),
        ("/api/v1/namespaces", "status.phase=Active,metadata.namespace="),
        (NODES, "spec.unschedulable!=true,metadata.name!=n1"),
        (EVENTS, "involvedObject.kind!=Pod,involvedObject.fieldPath=,reason!=x,type!=Normal,reportingComponent!=x"),
        (METRICS, "spec.nodeName!=n1,metadata.name!=x"),
        ("/apis/metrics.k8s.io/v1beta1/nodes", "spec.unschedulable!=true"),
        ("/apis/apps/v1/namespaces/default/controllerrevisions", "data.spec.anything.below!=x"),
        (
            "/apis/choregos.dev/v1/namespaces/default/agents",
            "status.phase=Running,spec.node!=n1,spec.runtime.python!=x",
        ),
        ("/apis/choregos.dev/v1/namespaces/default/agentsets", "spec.template.settings.any.thing!=x"),
    ],
)
async def test_fields_that_there_are_may_be_asked_for(client: Any, path: str, selector: str) -> None:
    listed = await client.get(path, fieldSelector=selector)
    assert listed.code == 200, listed.json


async def test_the_source_of_an_event_is_its_component(client: Any) -> None:
    event = {"involvedObject": {"kind": "Agent", "name": "a"}, "source": {"component": "node", "host": "n1"}}
    assert (await client.post(EVENTS, {"metadata": {"name": "e"}, **event})).code == 201
    for selector, count in (("source=node", 1), ("source!=node", 0), ("source=region", 0)):
        assert len((await client.get(EVENTS, fieldSelector=selector)).json["items"]) == count, selector
