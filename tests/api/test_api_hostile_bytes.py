"""Bytes that are nearly a request: manifests of every form with pieces cut, doubled, swapped and broken."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GROUP = "/apis/choregos.dev/v1/namespaces/default"
TEMPLATE = {"name": "t", "replicas": 1, "capabilities": ["c"], "labels": {"a": "b"}, "runtime": {"python": "m:C"}}
MANIFESTS: dict[str, dict[str, Any]] = {
    f"{GROUP}/agentclusters": {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"a": "b"}},
        "spec": {
            "orchestrator": {"type": "hierarchical", "levels": [{"name": "fleet", "scope": "global"}]},
            "agents": [{**TEMPLATE, "resources": {"cpu": "100m", "memory": "1Mi"}, "env": {"K": "v"}}],
            "auto_scaling": {"enabled": False, "min_replicas": 1, "target_utilization": "70%"},
        },
    },
    f"{GROUP}/agentsets": {"metadata": {"name": "x"}, "spec": {"replicas": 1, "template": TEMPLATE}},
    f"{GROUP}/agentcalls": {"spec": {"agent": "a", "method": "echo", "arguments": {"a": [1, None, 2.5]}}},
    "/api/v1/namespaces/default/configmaps": {"metadata": {"name": "x"}, "data": {"a": "b"}},
    "/apis/rbac.authorization.k8s.io/v1/clusterroles": {
        "metadata": {"name": "x"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
    },
}
CONTENTS = (
    "application/json",
    "application/yaml",
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/vnd.kubernetes.protobuf",
    "application/json; charset=utf-16",
    "text/plain",
    "",
)
PIECES = st.sampled_from(
    (
        *(b"[", b"]", b"{", b"}", b":", b",", b'"', b"\\", b"\n", b"\t", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf"),
        *(b"NaN", b"-Infinity", b"1e999", b"9" * 40, b"-0", b"null", b"true", b".inf", b"0x_", b"1:2:3", b"012"),
        *(
            rb"\ud800",
            rb"\u0000",
            "🧨".encode(),
            b"&a ",
            b"*a",
            b"<<: ",
            b"!!binary ",
            b"? ",
            b"- ",
            b"---\n",
            b"%YAML 9",
        ),
        *(b"[" * 300, b"- " * 300, b'{"a":' * 300, b"metadata", b"k8s\0", b"\x0a\xff\xff\xff\xff\x0f"),
    )
)


def protobuf_envelope(body: bytes) -> bytes:
    """As kubectl's typed commands send them: a magic number, then an Unknown with the raw object."""
    return b"k8s\0" + b"\x0a\x04\x0a\x02v1" + b"\x12" + bytes([len(body) % 128]) + body


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    collection = draw(st.sampled_from(sorted(MANIFESTS)))
    manifest = MANIFESTS[collection]
    form = draw(st.sampled_from(("json", "flow", "block", "patch", "protobuf")))
    if form == "json":
        text = json.dumps(manifest).encode()
    elif form == "patch":
        text = json.dumps([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]).encode()
    elif form == "protobuf":
        text = protobuf_envelope(json.dumps(manifest).encode()[:100])
    else:
        text = yaml.safe_dump(manifest, default_flow_style=form == "flow").encode()
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 20)))
        piece = draw(PIECES | st.binary(max_size=6) | st.just(text[start:end] * 2))
        text = text[:start] + piece + text[end:]
    return collection, text


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes, dict[str, Any]]:
    collection, body = draw(bodies())
    method = draw(st.sampled_from(("POST", "PUT", "PATCH", "DELETE")))
    path = collection if method == "POST" else f"{collection}/x"
    word = st.text(max_size=6) | st.sampled_from(("All", "Strict", "Warn", "Ignore", "true", "false", "1", "-1"))
    names = ("dryRun", "fieldManager", "fieldValidation", "force", "gracePeriodSeconds", "propagationPolicy")
    query = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, word)))
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    accept = draw(st.sampled_from(("application/json", "*/*", table, "text/html", ";;,=", ";;,")))
    return method, path, body, {"content": draw(st.sampled_from(CONTENTS)), "accept": accept, **query}


@pytest.fixture(scope="module")
def runner() -> Any:
    with asyncio.Runner() as opened:
        yield opened


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(requests(), min_size=1, max_size=8))
def test_no_bytes_are_a_fault_of_the_server(open_world: Any, runner: asyncio.Runner, sequence: list[Any]) -> None:
    async def send() -> None:
        async with open_world() as world:
            for method, path, body, options in sequence:
                reply = await world.client.request(method, path, body, **options)
                assert reply.code < 500, (method, path, body, options, reply.body)
                if reply.code >= 400:
                    assert (reply.json["kind"], reply.json["code"]) == ("Status", reply.code)
                    assert reply.json["message"]
                for name, value in reply.headers:
                    assert all(" " <= char <= "~" for char in value), (name, value)

    runner.run(send())
