from __future__ import annotations

import re
from typing import Any

import pytest

from choregos.resources import registry

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


async def test_aggregated_discovery_lists_every_kind_where_it_is_served(client: Any) -> None:
    found = set()
    for path in ("/api", "/apis"):
        reply = await client.get(path, accept=AGGREGATED)
        assert reply.header("content-type") == ["application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"]
        for group in reply.json["items"]:
            for version in group["versions"]:
                for resource in version["resources"]:
                    found.add((group["metadata"].get("name", ""), version["version"], resource["resource"]))
    expected = {
        (*place, registry.names_at(kind, *place)[0])
        for kind in registry.KINDS
        for place in registry.group_versions(kind)
    }
    assert found == expected


async def test_legacy_discovery_says_the_same(client: Any) -> None:
    assert (await client.get("/api")).json["versions"] == ["v1"]
    groups = (await client.get("/apis")).json["groups"]
    served = {group for kind in registry.KINDS for group, _ in registry.group_versions(kind) if group}
    assert {group["name"] for group in groups} == served
    (ours,) = (group for group in groups if group["name"] == "choregos.dev")
    assert (await client.get("/apis/choregos.dev")).json == ours | {"kind": "APIGroup", "apiVersion": "v1"}
    resources = (await client.get("/apis/choregos.dev/v1")).json["resources"]
    names = {resource["name"] for resource in resources}
    assert {"agentclusters", "agentclusters/status", "agentsets/scale", "agents/log", "agentcalls"} <= names
    core = {resource["name"]: resource for resource in (await client.get("/api/v1")).json["resources"]}
    # A word in two places would mean the one of the core group to kubectl.
    assert "shortNames" not in core["v1agentclusters"]
    assert "agentclusters" not in core
    assert core["namespaces"]["shortNames"] == ["ns"]


async def test_openapi_has_what_kubectl_looks_up(client: Any) -> None:
    index = (await client.get("/openapi/v3")).json["paths"]
    assert set(index) >= {"api/v1", "apis/choregos.dev/v1", "apis/rbac.authorization.k8s.io/v1"}
    url = index["apis/choregos.dev/v1"]["serverRelativeURL"]
    document = (await client.get(url.partition("?")[0])).json
    path = document["paths"]["/apis/choregos.dev/v1/namespaces/{namespace}/agentclusters/{name}"]
    expected = {"group": "choregos.dev", "version": "v1", "kind": "AgentCluster"}
    assert path["patch"]["x-kubernetes-group-version-kind"] == expected
    assert "fieldValidation" in {parameter["name"] for parameter in path["patch"]["parameters"]}
    schema = document["components"]["schemas"]["dev.choregos.v1.AgentCluster"]
    assert schema["x-kubernetes-group-version-kind"] == [expected]
    assert "spec" in schema["properties"]


async def test_what_an_openapi_document_refers_to_is_in_it(client: Any) -> None:
    index = (await client.get("/openapi/v3")).json["paths"]
    for entry in index.values():
        reply = await client.get(entry["serverRelativeURL"].partition("?")[0])
        schemas = reply.json["components"]["schemas"]
        found = set(re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', reply.body.decode()))
        assert found
        assert found <= set(schemas), found - set(schemas)
        operations = [
            each["operationId"]
            for path in reply.json["paths"].values()
            for each in path.values()
            if isinstance(each, dict)
        ]
        assert len(operations) == len(set(operations))


async def test_openapi_v2_is_empty_in_both_encodings(client: Any) -> None:
    assert (await client.get("/openapi/v2")).json["swagger"] == "2.0"
    gnostic = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    reply = await client.get("/openapi/v2", accept=gnostic)
    assert reply.header("content-type") == [gnostic.replace("@", ".")]
    assert reply.body.startswith(b"\n\x032.0")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health_is_answered(client: Any, path: str) -> None:
    assert (await client.get(path)).body == b"ok"


async def test_the_version_says_which_product_it_is(client: Any) -> None:
    assert "choregos" in (await client.get("/version")).json["gitVersion"]
