"""Whatever JSON a client sends, wherever it sends it: the server answers, and never that the fault is its own."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GROUP = "/apis/choregos.dev/v1/namespaces/default"
TEMPLATE = {"name": "t", "replicas": 1, "capabilities": ["c"], "labels": {"a": "b"}, "runtime": {"python": "m:C"}}
INVOLVED = {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "p"}
VALID: dict[str, dict[str, Any]] = {
    f"{GROUP}/agentclusters": {
        "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["example.org/f"]},
        "spec": {"agents": [{**TEMPLATE, "resources": {"cpu": "100m", "memory": "1Mi"}, "env": {"K": "v"}}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    },
    "/api/v1/namespaces/default/agentclusters": {
        "metadata": {"name": "x"},
        "spec": {"replicas": 1, "regions": [{"name": "local", "agent_distribution": {"a": 1}}]},
    },
    f"{GROUP}/agentsets": {
        "metadata": {"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "u"}]},
        "spec": {"replicas": 1, "template": TEMPLATE},
    },
    f"{GROUP}/agentcalls": {"spec": {"agent": "a", "method": "echo", "arguments": {"a": 1}, "timeoutSeconds": 1}},
    "/apis/choregos.dev/v1/agentnodes": {"metadata": {"name": "x"}, "spec": {"region": "local"}},
    "/api/v1/namespaces": {"metadata": {"name": "x"}},
    "/api/v1/namespaces/default/events": {"metadata": {"name": "x"}, "involvedObject": INVOLVED},
    f"{GROUP}/agents": {"metadata": {"name": "x"}},
}
KINDS = {
    f"{GROUP}/agentclusters": "AgentCluster",
    "/api/v1/namespaces/default/agentclusters": "AgentCluster",
    f"{GROUP}/agentsets": "AgentSet",
    f"{GROUP}/agentcalls": "AgentCall",
    "/apis/choregos.dev/v1/agentnodes": "AgentNode",
    "/api/v1/namespaces": "Namespace",
    "/api/v1/namespaces/default/events": "Event",
    f"{GROUP}/agents": "Agent",
}
WITH_SCALE = f"{GROUP}/agentsets"
DELETE_OPTIONS = {
    "gracePeriodSeconds": 1,
    "preconditions": {"uid": "u", "resourceVersion": "1"},
    "propagationPolicy": "Orphan",
    "orphanDependents": True,
    "dryRun": ["All"],
}
SCALE = {"metadata": {"name": "x", "resourceVersion": "1"}, "spec": {"replicas": 1}}
WAYS = ("create", "replace", "merge", "patch", "strategic", "apply", "delete", "scale", "status")
DIRECTIVES = ("$patch", "$retainKeys", "$setElementOrder/", "$deleteFromPrimitiveList/")
WORDS = (
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "uid",
    "labels",
    "finalizers",
    "replicas",
    "agents",
    "x",
    "",
)
NUMBERS = st.integers() | st.integers(2**60, 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(WORDS)
KEYS = st.sampled_from(WORDS) | st.text(max_size=4)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within, the whole included."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(place for key, value in inside for place in places(value, (*path, key)))]


@st.composite
def nearly(draw: st.DrawFn, valid: Any) -> Any:
    """`valid` with one or two values replaced by anything."""
    document = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 2))):
        *way, last = ("document", *draw(st.sampled_from(places(document))))
        parent: Any = {"document": document}
        holder = parent
        for key in way:
            holder = holder[key]
        holder[last] = draw(JSON)
        document = parent["document"]
    return document


@st.composite
def operations(draw: st.DrawFn, valid: Any) -> Any:
    """A JSON Patch, most of whose pointers lead somewhere."""
    pointers = ["".join(f"/{key}" for key in place) for place in places(valid)] + ["/spec/-", "/metadata/uid/x"]
    operation = st.fixed_dictionaries(
        {
            "op": st.sampled_from(("add", "remove", "replace", "move", "copy", "test")),
            "path": st.sampled_from(pointers),
        },
        optional={"value": JSON, "from": st.sampled_from(pointers)},
    )
    return draw(st.lists(operation, max_size=3) | JSON)


@st.composite
def directed(draw: st.DrawFn, valid: Any) -> Any:
    """`valid` as a strategic merge patch: changed here and there, with directives at random places."""
    document = draw(nearly(valid))
    objects = [place for place in places({"": document}) if place]
    for _ in range(draw(st.integers(0, 2))):
        holder: Any = {"": document}
        for key in draw(st.sampled_from(objects)):
            holder = holder[key]
        if isinstance(holder, dict):
            field = draw(st.sampled_from([*holder, "x"]))
            directive = draw(
                st.sampled_from(("$patch", "$retainKeys", "$setElementOrder/", "$deleteFromPrimitiveList/"))
            )
            value = draw(st.sampled_from(("delete", "replace", "merge")) | JSON)
            holder[f"{directive}{field}" if directive.endswith("/") else directive] = value
    return document


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any, dict[str, Any]]:
    """Method, path, body and options of a request that some handler may take."""
    collection = draw(st.sampled_from(sorted(VALID)))
    valid = VALID[collection]
    what = draw(
        st.sampled_from(("create", "replace", "merge", "patch", "delete", "scale", "status", "strategic", "apply"))
    )
    if what == "create":
        return "POST", collection, draw(nearly(valid) | JSON), {}
    if what == "delete":
        path = draw(st.sampled_from((f"{collection}/x", collection)))
        return "DELETE", path, draw(nearly(DELETE_OPTIONS) | JSON), {}
    path = f"{collection}/x"
    if what == "strategic":
        return "PATCH", path, draw(directed(valid)), {"content": "application/strategic-merge-patch+json"}
    if what == "apply":
        config = {"apiVersion": draw(st.sampled_from(("choregos.dev/v1", "v1"))), "kind": KINDS[collection], **valid}
        options = {"fieldManager": draw(st.sampled_from("ab")), "force": draw(st.sampled_from(("true", "false")))}
        return "PATCH", path, draw(nearly(config)), {"content": "application/apply-patch+yaml", **options}
    if what == "scale":
        path, valid = f"{WITH_SCALE}/x/scale", SCALE
    elif what == "status":
        path = f"{path}/status"
    if what == "patch" or (what != "replace" and draw(st.booleans())):
        return "PATCH", path, draw(operations(valid)), {"content": "application/json-patch+json"}
    if what == "merge" or (what != "replace" and draw(st.booleans())):
        return "PATCH", path, draw(nearly(valid) | JSON), {"content": "application/merge-patch+json"}
    return "PUT", path, draw(nearly(valid) | JSON), {}


@pytest.fixture(scope="module")
def runner() -> Any:
    with asyncio.Runner() as opened:
        yield opened


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(requests(), min_size=1, max_size=6))
def test_no_document_is_a_fault_of_the_server(open_world: Any, runner: asyncio.Runner, sequence: list[Any]) -> None:
    async def send() -> None:
        async with open_world() as world:
            for collection, valid in VALID.items():
                await world.client.post(collection, valid)
            for method, path, body, options in sequence:
                reply = await world.client.request(method, path, body, **options)
                assert reply.code < 500, (method, path, body, reply.body)
                shown = await world.client.get(path.removesuffix("/status").removesuffix("/scale"))
                assert shown.code < 500, (method, path, body, shown.body)

    runner.run(send())
