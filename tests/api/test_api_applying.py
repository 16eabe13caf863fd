"""Server-side apply and `managedFields` through the whole server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from choregos.store.backends import memory

GROUP = "/apis/choregos.dev/v1/namespaces/default"
CLUSTERS, SETS = f"{GROUP}/agentclusters", f"{GROUP}/agentsets"
APPLY = "apply-patch+yaml"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def apply(client: Any, config: Any, manager: str = "a", path: str = "", **options: Any) -> Any:
    path = path or f"{CLUSTERS}/{config['metadata']['name']}"
    return await client.patch(path, config, APPLY, fieldManager=manager, **options)


def agent_set(**spec: Any) -> dict[str, Any]:
    template = {"name": "t", "runtime": {"python": "m:C"}}
    metadata = {"name": "lone"}
    return {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentSet",
        "metadata": metadata,
        "spec": {"template": template, **spec},
    }


def managers(reply: Any) -> list[tuple[str, str, str]]:
    entries = reply.json["metadata"].get("managedFields", [])
    return sorted((entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries)


async def test_what_is_not_there_is_created_and_what_is_there_is_changed(client: Any, manifests: Any) -> None:
    created = await apply(client, manifests.cluster())
    assert created.code == 201, created.json
    assert created.json["metadata"]["finalizers"] == ["choregos.dev/agents"]
    (entry,) = created.json["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("a", "Apply", "choregos.dev/v1")
    assert list(entry["fieldsV1"]) == ["f:spec"]
    again = await apply(client, manifests.cluster())
    assert (again.code, again.json) == (200, created.json)
    labelled = await apply(client, manifests.cluster(metadata={"labels": {"x": "1"}}))
    assert (labelled.code, labelled.json["metadata"]["labels"]) == (200, {"x": "1"})
    assert labelled.json["metadata"]["generation"] == 1
    assert (await client.get(f"{CLUSTERS}/support")).json == labelled.json


async def test_a_configuration_may_be_yaml(client: Any) -> None:
    text = b"apiVersion: choregos.dev/v1\nkind: AgentNode\nmetadata: {name: n1}\nspec: {region: local}\n"
    path = "/apis/choregos.dev/v1/agentnodes/n1"
    assert (await client.patch(path, text, APPLY, fieldManager="a")).code == 201
    assert (await client.patch(path, b"{a: b", APPLY, fieldManager="a")).code == 400


async def test_a_part_of_an_object_can_be_applied_where_it_is_and_not_be_created(client: Any, manifests: Any) -> None:
    part = {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "support", "labels": {"x": "1"}},
    }
    refused = await apply(client, part)
    assert (refused.code, "spec" in refused.json["message"]) == (422, True)
    await client.post(CLUSTERS, manifests.cluster())
    assert (await apply(client, part)).code == 200


async def test_normal_forms_and_defaults_are_no_change_and_no_conflict(client: Any) -> None:
    resources = {"memory": "1024Mi", "cpu": 1}
    first = await apply(client, agent_set(template={"name": "t", "resources": resources}), path=f"{SETS}/lone")
    assert first.json["spec"]["template"]["resources"] == {"memory": "1Gi", "cpu": "1", "gpu": "0"}
    again = await apply(client, agent_set(template={"name": "t", "resources": resources}), path=f"{SETS}/lone")
    assert again.json == first.json
    shared = await apply(
        client, agent_set(template={"name": "t", "resources": {"memory": "1Gi"}}), "b", path=f"{SETS}/lone"
    )
    assert (shared.code, [name for name, *_ in managers(shared)]) == (200, ["a", "b"])
    # A field that is applied no more takes its default again.
    less = await apply(client, agent_set(template={"name": "t"}), path=f"{SETS}/lone")
    assert less.json["spec"]["template"]["resources"] == {"memory": "1Gi", "cpu": "10m", "gpu": "0"}


async def test_a_conflict_is_a_409_unless_it_is_forced(client: Any, manifests: Any) -> None:
    await apply(client, manifests.cluster())
    other = manifests.cluster()
    other["spec"]["agents"][0]["replicas"] = 2
    refused = await apply(client, other, "b")
    assert (refused.code, refused.json["reason"]) == (409, "Conflict")
    assert refused.json["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "a"',
            "field": '.spec.agents[name="chat"].replicas',
        }
    ]
    assert (await apply(client, other, "b", force="false")).code == 409
    assert (await apply(client, other, "b", force="true")).json["spec"]["agents"][0]["replicas"] == 2


async def test_a_dry_run_says_what_would_be_and_stores_nothing(client: Any, manifests: Any) -> None:
    assert (await apply(client, manifests.cluster(), dryRun="All")).code == 201
    assert (await client.get(f"{CLUSTERS}/support")).code == 404
    created = await apply(client, manifests.cluster())
    dry = await apply(client, manifests.cluster(metadata={"labels": {"x": "1"}}), dryRun="All")
    assert dry.json["metadata"]["labels"] == {"x": "1"}
    assert (await client.get(f"{CLUSTERS}/support")).json == created.json


async def test_preconditions_of_a_configuration_are_kept(client: Any, manifests: Any) -> None:
    missing = await apply(client, manifests.cluster(metadata={"uid": "u"}))
    assert (missing.code, "uid mismatch" in missing.json["message"]) == (409, True)
    created = (await apply(client, manifests.cluster())).json
    revision = created["metadata"]["resourceVersion"]
    changed = await apply(client, manifests.cluster(metadata={"labels": {"x": "1"}, "resourceVersion": revision}))
    assert changed.code == 200
    stale = await apply(client, manifests.cluster(metadata={"labels": {"x": "2"}, "resourceVersion": revision}))
    assert (stale.code, "has been modified" in stale.json["message"]) == (409, True)
    assert (await apply(client, manifests.cluster(metadata={"uid": "other"}))).code == 409
    assert "resourceVersion" not in json.dumps(changed.json["metadata"]["managedFields"])


@pytest.mark.parametrize(
    ("changes", "options", "code", "said"),
    [
        ({}, {"fieldManager": ""}, 422, "fieldManager: Required value: is required for apply patch"),
        ({}, {"fieldManager": "m" * 129}, 422, "at most 128 bytes"),
        ({}, {"fieldManager": "a\nb"}, 422, "printable"),
        ({}, {"force": "perhaps"}, 400, "force must be true or false"),
        ({"kind": "AgentSet"}, {}, 400, "invalid object type"),
        ({"apiVersion": "v1"}, {}, 400, "invalid object type"),
        ({"metadata": {"name": "other"}}, {}, 400, "does not match the name on the URL"),
        ({"metadata": {"name": "x", "namespace": "other"}}, {}, 400, "namespace"),
        ({"metadata": {"name": "x", "managedFields": []}}, {}, 400, "metadata.managedFields must be nil"),
        ({"metadata": []}, {}, 400, "metadata must be an object"),
        ({"spec": {"agents": [{"name": "a"}, {"name": "a"}]}}, {}, 422, "is listed twice"),
        ({"spec": {"agents": [{"replicas": 1}]}}, {}, 422, "by which it is known"),
        ({"spec": {"agents": "x"}}, {}, 422, "expected a list"),
        ({"spec": {"agents": [], "colour": 1}}, {"fieldValidation": "Strict"}, 400, 'unknown field "spec.colour"'),
    ],
)
async def test_what_cannot_be_applied_is_refused(
    client: Any, manifests: Any, changes: Any, options: Any, code: int, said: str
) -> None:
    for _ in range(2):  # where there is no object, and where there is
        refused = await client.patch(
            f"{CLUSTERS}/x", {**manifests.cluster("x"), **changes}, APPLY, **{"fieldManager": "a", **options}
        )
        assert (refused.code, said in refused.json["message"]) == (code, True), refused.json
        await client.post(CLUSTERS, manifests.cluster("x"))


async def test_only_who_applies_may_force(client: Any, manifests: Any) -> None:
    await client.post(CLUSTERS, manifests.cluster())
    refused = await client.patch(f"{CLUSTERS}/support", {}, force="true")
    assert (refused.code, "may not be specified for non-apply patch" in refused.json["message"]) == (422, True)


async def test_nothing_is_created_below_what_is_not_there(client: Any, manifests: Any) -> None:
    config = manifests.cluster(status={"agents": 1})
    assert (await apply(client, config, path=f"{CLUSTERS}/support/status")).code == 404
    elsewhere = f"{CLUSTERS.replace('default', 'nowhere')}/support"
    assert (await apply(client, config, path=elsewhere)).json["message"] == 'namespaces "nowhere" not found'


async def test_two_who_create_the_same_share_it(client: Any, manifests: Any) -> None:
    replies = await asyncio.gather(*(apply(client, manifests.cluster(), f"m{number}") for number in range(6)))
    assert sorted(reply.code for reply in replies) == [200] * 5 + [201]
    assert len(managers(await client.get(f"{CLUSTERS}/support"))) == 6


async def test_a_scale_is_applied_and_owned(client: Any) -> None:
    await apply(client, agent_set(replicas=1), path=f"{SETS}/lone")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "lone"}, "spec": {"replicas": 3}}
    refused = await apply(client, scale, "hpa", f"{SETS}/lone/scale")
    assert (refused.code, refused.json["details"]["causes"][0]["field"]) == (409, ".spec.replicas")
    scaled = await apply(client, scale, "hpa", f"{SETS}/lone/scale", force="true")
    assert (scaled.json["kind"], scaled.json["spec"]) == ("Scale", {"replicas": 3})
    shown = await client.get(f"{SETS}/lone")
    assert managers(shown) == [("a", "Apply", ""), ("hpa", "Apply", "scale")]
    kept = await apply(client, agent_set(), path=f"{SETS}/lone")
    assert kept.json["spec"]["replicas"] == 3
    bare = {**scale, "spec": {}}
    assert (await apply(client, bare, "hpa", f"{SETS}/lone/scale")).json["spec"] == {"replicas": 1}
    assert (await apply(client, agent_set(), "hpa", f"{SETS}/lone/scale")).code == 400
    await client.patch(f"{SETS}/lone/scale", {"spec": {"replicas": 5}}, fieldManager="kubectl-scale")
    assert ("kubectl-scale", "Update", "scale") in managers(await client.get(f"{SETS}/lone"))


async def test_every_kind_of_write_has_an_author(client: Any, manifests: Any) -> None:
    await client.post(CLUSTERS, manifests.cluster(), fieldManager="creator")
    path = f"{CLUSTERS}/support"
    operations = [{"op": "add", "path": "/metadata/labels", "value": {"x": "1"}}]
    await client.patch(path, operations, "json-patch+json", fieldManager="patcher")
    labels = {"metadata": {"labels": {"y": "1"}}}
    await client.patch(path, labels, "strategic-merge-patch+json", fieldManager="strategist")
    await client.patch(f"{path}/status", {"status": {"agents": 2}}, fieldManager="judge")
    seen = (await client.get(path)).json
    seen["metadata"]["annotations"] = {"a/b": "c"}
    await client.put(path, seen, fieldManager="editor")
    assert managers(await client.get(path)) == [
        ("creator", "Update", ""),
        ("editor", "Update", ""),
        ("judge", "Update", "status"),
        ("patcher", "Update", ""),
        ("strategist", "Update", ""),
    ]


async def test_who_says_nothing_is_what_his_client_is_called(client: Any, manifests: Any) -> None:
    for agent, manager in ((" ", "unknown"), ("kr8s/0.20 (x)", "kr8s"), ("a\tb", "ab"), ("m" * 200, "m" * 128)):
        scope = {**client._scope("POST", CLUSTERS, {}, {"user-agent": agent})}
        body = json.dumps(manifests.cluster(f"c{len(agent)}")).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive(messages: Any = messages) -> Any:
            return messages.pop(0)

        async def send(message: Any, sent: Any = sent) -> None:
            sent.append(message)

        await client._app(scope, receive, send)
        created = json.loads(sent[1]["body"])
        assert created["metadata"]["managedFields"][0]["manager"] == (manager if agent != " " else " ")


async def test_an_operation_may_go_into_managed_fields(client: Any, manifests: Any) -> None:
    await apply(client, manifests.cluster())
    path = f"{CLUSTERS}/support"
    rename = [{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "b"}]
    assert managers(await client.patch(path, rename, "json-patch+json")) == [("b", "Apply", "")]
    remove = [{"op": "remove", "path": "/metadata/managedFields/0/fieldsV1/f:spec"}]
    unchanged = await client.patch(path, remove, "json-patch+json")
    assert managers(unchanged) == [("b", "Apply", "")]
    forget = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
    assert managers(await client.patch(path, forget, "json-patch+json")) == []
    refused = await client.patch(path, [{"op": "remove", "path": "/metadata/managedFields/0"}], "json-patch+json")
    assert refused.code == 422


async def test_a_text_is_not_taken_for_the_stored_form(client: Any, manifests: Any) -> None:
    created = (await apply(client, manifests.cluster())).json
    for text in ("[]", json.dumps(created["metadata"]["managedFields"]), "[{]"):
        body = {**created, "metadata": {**created["metadata"], "managedFields": text}}
        assert (await client.put(f"{CLUSTERS}/support", body)).json == created
    posted = await client.post(CLUSTERS, manifests.cluster("other", metadata={"managedFields": "[{]"}))
    assert managers(posted) == [("unknown", "Update", "")]


async def test_managed_fields_are_shown_wherever_objects_are(client: Any, manifests: Any) -> None:
    created = (await apply(client, manifests.cluster())).json
    fields = created["metadata"]["managedFields"]
    assert (await client.get(CLUSTERS)).json["items"][0] == created
    partial = (await client.get(f"{CLUSTERS}/support", accept=PARTIAL)).json
    assert partial["metadata"]["managedFields"] == fields
    row = (await client.get(CLUSTERS, accept=TABLE)).json["rows"][0]
    assert "managedFields" not in row["object"]["metadata"]
    whole = (await client.get(CLUSTERS, accept=TABLE, includeObject="Object")).json["rows"][0]
    assert whole["object"] == created
    for accept in ("application/json", PARTIAL):
        async with client.stream(CLUSTERS, accept, watch="true") as stream:
            assert (await stream.line())["object"]["metadata"]["managedFields"] == fields
    core = (await client.get("/api/v1/namespaces/default/agentclusters/support")).json
    assert core["metadata"]["managedFields"] == fields
    deleted = await client.delete(f"{CLUSTERS}/support")
    assert deleted.json["metadata"]["managedFields"] == fields


async def test_the_stored_form_is_one_text(world: Any, manifests: Any) -> None:
    await apply(world.client, manifests.cluster())
    stored = world.context.resources.get("agentclusters", "default", "support")
    assert isinstance(stored["metadata"]["managedFields"], str)


async def test_what_is_too_large_with_owners_is_kept_without(
    client: Any, manifests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = manifests.cluster(metadata={"labels": {f"l{number}": "x" for number in range(20)}})
    shown = (await client.post(CLUSTERS, config, dryRun="All")).json
    bare = {**shown, "metadata": {name: part for name, part in shown["metadata"].items() if name != "managedFields"}}
    monkeypatch.setattr(memory, "RECORD_BYTES_MAX", len(json.dumps(bare)))
    assert (await apply(client, config)).code == 413
    created = await client.post(CLUSTERS, config)
    assert (created.code, managers(created)) == (201, [])
    monkeypatch.undo()
    await apply(client, config, force="true")
    monkeypatch.setattr(memory, "RECORD_BYTES_MAX", len(json.dumps(bare)))
    patched = await client.patch(f"{CLUSTERS}/support", {"metadata": {"labels": {"l0": "y"}}})
    assert (patched.json["metadata"]["labels"]["l0"], managers(patched)) == ("y", [])
    monkeypatch.setattr(memory, "RECORD_BYTES_MAX", 200)
    refused = await client.post(CLUSTERS, manifests.cluster("other"))
    assert (refused.code, refused.json["reason"]) == (413, "RequestEntityTooLarge")
    said = refused.json["message"]
    assert said.startswith('agentclusters "other" cannot be stored: a record may have 200 bytes, this has ')


async def test_who_may_not_create_does_not_create_by_applying(client: Any, manifests: Any) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rules = [{"apiGroups": ["choregos.dev"], "resources": ["agentclusters"], "verbs": ["get", "patch"]}]
    await client.post(f"{rbac}/roles", {"metadata": {"name": "patcher"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}]
    bound = await client.post(
        f"{rbac}/rolebindings", {"metadata": {"name": "patcher"}, "roleRef": role, "subjects": subjects}
    )
    assert bound.code == 201, bound.json
    eve = client.as_({"subject": ((("commonName", "eve"),),)})
    refused = await apply(eve, manifests.cluster())
    assert (refused.code, "cannot create" in refused.json["message"]) == (403, True)
    await client.post(CLUSTERS, manifests.cluster())
    assert (await apply(eve, manifests.cluster())).code == 200


async def test_a_deeply_nested_configuration_is_refused_cheaply(client: Any) -> None:
    deep = b'{"apiVersion":"choregos.dev/v1","kind":"AgentCluster","metadata":{"name":"x"},"spec":'
    for nested in (b'{"a":' * 100_000, b"[" * 100_000):
        for kind in (APPLY, "strategic-merge-patch+json"):
            reply = await client.patch(f"{CLUSTERS}/x", deep + nested, kind, fieldManager="a")
            assert reply.code == 400
    settings: Any = {}
    for _ in range(80):
        settings = {"a": settings}
    config = {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "metadata": {"name": "x"}}
    config["spec"] = {"agents": [{"name": "a", "settings": settings}]}
    refused = await apply(client, config)
    assert (refused.code, "nested more than" in refused.json["message"]) == (422, True)
