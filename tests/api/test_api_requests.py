from __future__ import annotations

from typing import Any

import pytest

from choregos.security.pki import ADMINISTRATORS

CLUSTERS = "/apis/choregos.dev/v1/namespaces/default/agentclusters"
NODES = "/apis/choregos.dev/v1/agentnodes"
MANIFEST = b"""
apiVersion: v1
kind: AgentCluster
metadata: {name: support, annotations: {example.org/since: "2026-11-22"}}
spec: {agents: [{name: chat, runtime: {python: 'm:C'}}]}
"""


async def test_yaml_is_accepted(client: Any) -> None:
    created = await client.post(CLUSTERS, MANIFEST, content="application/yaml")
    assert created.code == 201, created.json


@pytest.mark.parametrize(
    ("body", "content", "code"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "application/json", 422),
        (b"a: [", "application/yaml", 400),
        (b"\xff\xfe", "application/yaml", 400),
        (b"a: &x [*x]", "application/yaml", 400),
        (b"[" * 300_000, "application/yaml", 400),
        (b'{"a":' * 300_000, "application/yaml", 400),
        (
            b"".join(
                b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1) if n else b"lol"] * 9)) for n in range(9)
            ),
            "application/yaml",
            400,
        ),
        (b"a: !!python/object:os.system {}", "application/yaml", 400),
        (b"k8s\x00", "application/vnd.kubernetes.protobuf", 415),
        (b"<x/>", "text/xml", 415),
    ],
)
async def test_bodies_that_cannot_be_read_are_refused(client: Any, body: bytes, content: str, code: int) -> None:
    refused = await client.post(CLUSTERS, body, content=content)
    assert refused.code == code
    assert refused.json["kind"] == "Status"


async def test_a_body_over_the_limit_is_refused_before_it_is_read(client: Any) -> None:
    refused = await client.post(CLUSTERS, b"x" * (3 * 1024 * 1024 + 1))
    assert (refused.code, refused.json["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize("kind", ["apply-patch+cbor", "json"])
async def test_patches_of_other_kinds_are_answered_so_that_clients_fall_back(client: Any, kind: str) -> None:
    refused = await client.patch(f"{CLUSTERS}/support", {}, kind)
    assert (refused.code, refused.json["reason"]) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/apis/choregos.dev/v2/agentclusters", 404),
        ("GET", "/apis/choregos.dev/v1/things", 404),
        ("GET", "/apis/choregos.dev/v1/namespaces/default/agentnodes", 404),
        ("GET", f"{CLUSTERS}/x/y", 404),
        ("GET", f"{CLUSTERS}/x/y/z", 404),
        ("GET", f"{CLUSTERS}/x/log", 404),
        ("GET", f"{CLUSTERS}/x", 404),
        ("POST", f"{CLUSTERS}/x", 405),
        ("PUT", CLUSTERS, 405),
        ("OPTIONS", CLUSTERS, 405),
        ("POST", "/apis", 405),
        ("POST", "/apis/choregos.dev/v1/namespaces/default/agents", 405),
        ("PATCH", "/apis/choregos.dev/v1/namespaces/default/agents/x", 405),
        ("GET", "/apis/choregos.dev/v1/namespaces/default/agentcalls", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("POST", "/apis/choregos.dev/v1/agentclusters", 400),
        ("POST", "/apis/authorization.k8s.io/v2/selfsubjectaccessreviews", 404),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
        ("POST", "/api/v1/namespaces/default/configmaps/x/token", 404),
    ],
)
async def test_what_is_not_served_is_refused(client: Any, method: str, path: str, code: int) -> None:
    refused = await client.request(method, path, {})
    assert (refused.code, refused.json["kind"]) == (code, "Status")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "many"}, 400),
        ({"resourceVersion": "-1"}, 400),
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersionMatch": "Sometimes", "resourceVersion": 1}, 422),
        ({"sendInitialEvents": "true"}, 422),
        ({"watch": "true", "sendInitialEvents": "true"}, 422),
        ({"watch": "perhaps"}, 400),
        ({"continue": "x"}, 400),
        ({"fieldSelector": "="}, 400),
        ({"includeObject": "All"}, 400),
    ],
)
async def test_bad_parameters_are_refused(client: Any, query: Any, code: int) -> None:
    assert (await client.get(NODES, **query)).code == code


async def test_without_a_certificate_nothing_is_answered_with_content(client: Any) -> None:
    stranger = client.as_(None)
    for path in ("/healthz", "/version", "/apis", CLUSTERS, "/nowhere"):
        refused = await stranger.get(path)
        assert (refused.code, refused.json["reason"]) == (401, "Unauthorized"), path


async def test_only_masters_reach_resources_and_everybody_known_reads_what_is_served(client: Any) -> None:
    user = client.as_({"subject": ((("commonName", "eve"),), (("organizationName", "team"),))})
    assert (await user.get("/apis")).code == 200
    refused = await user.get(f"{CLUSTERS}/support")
    assert (refused.code, refused.json["reason"]) == (403, "Forbidden")
    assert refused.json["message"] == (
        'agentclusters.choregos.dev "support" is forbidden: User "eve" cannot get resource "agentclusters" '
        'in API group "choregos.dev" in the namespace "default": no Role or ClusterRole that is bound to the user in '
        '"default" has the rule {"verbs":["get"],"apiGroups":["choregos.dev"],"resources":["agentclusters"]}'
    )
    assert (await user.get("/apis/choregos.dev/v1/things")).code == 403
    nameless = client.as_({"subject": ((("organizationName", ADMINISTRATORS),),)})
    assert (await nameless.get("/apis")).code == 401


async def test_an_unexpected_failure_is_logged_and_tells_the_client_nothing(
    world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(type(world.context.resources), "get", fail)
    failed = await world.client.get(f"{CLUSTERS}/support")
    assert (failed.code, failed.json["reason"]) == (500, "InternalError")
    assert "secret" not in failed.json["message"]
    assert "secret" in caplog.text
