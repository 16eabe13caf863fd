from __future__ import annotations

import asyncio
from typing import Any

import pytest

CLUSTERS = "/apis/choregos.dev/v1/namespaces/default/agentclusters"
CORE_CLUSTERS = "/api/v1/namespaces/default/agentclusters"
NODES = "/apis/choregos.dev/v1/agentnodes"
SETS = "/apis/choregos.dev/v1/namespaces/default/agentsets"
NAMESPACES = "/api/v1/namespaces"


async def test_a_created_object_is_read_back_with_server_side_metadata(client: Any, manifests: Any) -> None:
    created = await client.post(CLUSTERS, manifests.cluster())
    assert created.code == 201, created.json
    metadata = created.json["metadata"]
    assert metadata["uid"]
    assert metadata["generation"] == 1
    assert metadata["finalizers"] == ["choregos.dev/agents"]
    assert created.json["status"]
    read = await client.get(f"{CLUSTERS}/support")
    assert read.json == created.json


@pytest.mark.parametrize("core_clusters", [CORE_CLUSTERS, CORE_CLUSTERS.replace("agentclusters", "v1agentclusters")])
async def test_an_object_may_be_written_and_read_under_its_alias(
    client: Any, manifests: Any, core_clusters: str
) -> None:
    created = await client.post(core_clusters, {**manifests.cluster(), "apiVersion": "v1"})
    assert (created.code, created.json["apiVersion"]) == (201, "v1")
    assert (await client.get(f"{CLUSTERS}/support")).json["apiVersion"] == "choregos.dev/v1"
    listed = (await client.get(core_clusters)).json
    assert [item["apiVersion"] for item in listed["items"]] == ["v1"]
    replaced = await client.put(f"{core_clusters}/support", created.json)
    assert replaced.json == created.json


async def test_generated_names_end_in_a_suffix(client: Any, manifests: Any) -> None:
    body = manifests.cluster()
    body["metadata"] = {"generateName": "support-"}
    name = (await client.post(CLUSTERS, body)).json["metadata"]["name"]
    assert name.startswith("support-")
    assert len(name) == len("support-") + 5


async def test_only_a_change_of_the_spec_raises_the_generation(client: Any, manifests: Any) -> None:
    await client.post(CLUSTERS, manifests.cluster())
    labelled = (await client.patch(f"{CLUSTERS}/support", {"metadata": {"labels": {"a": "b"}}})).json
    assert labelled["metadata"]["generation"] == 1
    labelled["spec"]["agents"][0]["replicas"] = 4
    scaled = (await client.put(f"{CLUSTERS}/support", labelled)).json
    assert scaled["metadata"]["generation"] == 2
    assert int(scaled["metadata"]["resourceVersion"]) > int(labelled["metadata"]["resourceVersion"])


async def test_a_write_that_changes_nothing_keeps_the_resource_version(client: Any, manifests: Any) -> None:
    created = (await client.post(CLUSTERS, manifests.cluster())).json
    # The manifest leaves out what the server fills in; that is no change.
    assert (await client.put(f"{CLUSTERS}/support", manifests.cluster())).json == created
    assert (await client.patch(f"{CLUSTERS}/support", {"spec": {}})).json == created


async def test_spec_and_status_are_written_apart(client: Any, manifests: Any) -> None:
    created = (await client.post(CLUSTERS, manifests.cluster(status={"agents": 99}))).json
    assert created["status"]["agents"] == 0
    both = {"spec": {"agents": [{"name": "other"}]}, "status": {"agents": 7}}
    status = (await client.patch(f"{CLUSTERS}/support/status", both)).json
    assert status["spec"] == created["spec"]
    assert status["status"]["agents"] == 7
    spec = (await client.patch(f"{CLUSTERS}/support", both)).json
    assert spec["spec"]["agents"][0]["name"] == "other"
    assert spec["status"]["agents"] == 7
    assert spec["metadata"]["generation"] == 2


async def test_a_stale_resource_version_is_a_conflict(client: Any, manifests: Any) -> None:
    created = (await client.post(CLUSTERS, manifests.cluster())).json
    await client.patch(f"{CLUSTERS}/support", {"metadata": {"labels": {"a": "b"}}})
    refused = await client.put(f"{CLUSTERS}/support", created)
    assert (refused.code, refused.json["reason"]) == (409, "Conflict")
    assert "please apply your changes to the latest version" in refused.json["message"]
    stale = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"], "labels": {"c": "d"}}}
    assert (await client.patch(f"{CLUSTERS}/support", stale)).code == 409


async def test_patches_without_a_resource_version_all_arrive(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    replies = await asyncio.gather(
        *(client.patch(f"{NODES}/n1", {"metadata": {"labels": {f"l{number}": "x"}}}) for number in range(8))
    )
    assert {reply.code for reply in replies} == {200}
    assert len((await client.get(f"{NODES}/n1")).json["metadata"]["labels"]) == 8


async def test_unknown_fields_are_refused_reported_or_ignored_as_asked(client: Any, manifests: Any) -> None:
    body = manifests.cluster()
    body["spec"]["agents"][0]["colour"] = "red"
    refused = await client.post(CLUSTERS, body, fieldValidation="Strict")
    assert refused.code == 400
    assert 'strict decoding error: unknown field "spec.agents[0].colour"' in refused.json["message"]
    ignored = await client.post(CLUSTERS, body, fieldValidation="Ignore", dryRun="All")
    assert not [text for text in ignored.header("warning") if "colour" in text]
    warned = await client.post(CLUSTERS, body)
    assert warned.code == 201
    assert '299 - "unknown field \\"spec.agents[0].colour\\""' in warned.header("warning")
    assert "colour" not in warned.json["spec"]["agents"][0]
    assert (await client.post(CLUSTERS, body, fieldValidation="Perhaps")).code == 422


async def test_every_fault_is_a_cause_with_its_path(client: Any, manifests: Any) -> None:
    body = manifests.cluster()
    body["spec"]["agents"] = [{"name": "a", "replicas": -1}, {"name": "b", "resources": {"cpu": "much"}}]
    refused = await client.post(CLUSTERS, body)
    assert (refused.code, refused.json["reason"]) == (422, "Invalid")
    details = refused.json["details"]
    assert (details["name"], details["kind"], details["group"]) == ("support", "AgentCluster", "choregos.dev")
    assert {"spec.agents[0].replicas", "spec.agents[1].resources.cpu"} <= {
        cause["field"] for cause in details["causes"]
    }
    assert refused.json["message"].startswith('AgentCluster.choregos.dev "support" is invalid: [')


async def test_a_dry_run_answers_and_stores_nothing(client: Any, manifests: Any) -> None:
    dry = await client.post(CLUSTERS, manifests.cluster(), dryRun="All")
    assert dry.code == 201
    assert (await client.get(f"{CLUSTERS}/support")).code == 404
    created = (await client.post(CLUSTERS, manifests.cluster())).json
    assert (await client.post(CLUSTERS, manifests.cluster(), dryRun="All")).code == 409
    patched = await client.patch(f"{CLUSTERS}/support", {"metadata": {"labels": {"a": "b"}}}, dryRun="All")
    assert patched.json["metadata"]["labels"] == {"a": "b"}
    assert (await client.delete(f"{CLUSTERS}/support", dryRun="All")).code == 200
    assert (await client.get(f"{CLUSTERS}/support")).json == created
    assert (await client.patch(f"{CLUSTERS}/support", {}, dryRun="Some")).code == 422


async def test_an_object_stays_until_its_last_finalizer_is_gone(client: Any, manifests: Any) -> None:
    await client.post(CLUSTERS, manifests.cluster(metadata={"finalizers": ["example.org/mine"]}))
    marked = (await client.delete(f"{CLUSTERS}/support", {"propagationPolicy": "Foreground"})).json
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["generation"] == 2
    again = (await client.delete(f"{CLUSTERS}/support")).json
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    added = await client.patch(f"{CLUSTERS}/support", {"metadata": {"finalizers": ["example.org/new"]}})
    assert added.code == 422
    await client.patch(f"{CLUSTERS}/support", {"metadata": {"finalizers": ["example.org/mine"]}})
    assert (await client.get(f"{CLUSTERS}/support")).code == 200
    await client.patch(f"{CLUSTERS}/support", [{"op": "remove", "path": "/metadata/finalizers"}], "json-patch+json")
    assert (await client.get(f"{CLUSTERS}/support")).code == 404


async def test_writing_a_manifest_over_an_object_keeps_the_servers_own_finalizer(client: Any, manifests: Any) -> None:
    await client.post(CLUSTERS, manifests.cluster())
    replaced = await client.put(f"{CLUSTERS}/support", manifests.cluster(metadata={"labels": {"a": "b"}}))
    assert replaced.json["metadata"]["finalizers"] == ["choregos.dev/agents"]


async def test_a_deletion_without_finalizers_answers_with_what_is_gone(client: Any, manifests: Any) -> None:
    uid = (await client.post(NODES, manifests.node("n1"))).json["metadata"]["uid"]
    assert (await client.delete(f"{NODES}/n1", {"preconditions": {"uid": "other"}})).code == 409
    gone = await client.delete(f"{NODES}/n1", {"preconditions": {"uid": uid}})
    assert (gone.json["status"], gone.json["details"]["uid"]) == ("Success", uid)
    assert (await client.delete(f"{NODES}/n1")).code == 404


@pytest.mark.parametrize(
    ("options", "finalizers"),
    [
        ({}, ["choregos.dev/agents"]),
        ({"propagationPolicy": "Background"}, ["choregos.dev/agents"]),
        ({"propagationPolicy": "Orphan"}, ["choregos.dev/agents", "orphan"]),
        ({"propagationPolicy": "Foreground"}, ["choregos.dev/agents", "foregroundDeletion"]),
        ({"orphanDependents": True}, ["choregos.dev/agents", "orphan"]),
        ({"orphanDependents": False}, ["choregos.dev/agents"]),
    ],
)
@pytest.mark.parametrize("path", [f"{CLUSTERS}/support", CLUSTERS])
async def test_what_shall_become_of_dependents_is_a_finalizer(
    client: Any, manifests: Any, path: str, options: Any, finalizers: list[str]
) -> None:
    await client.post(CLUSTERS, manifests.cluster())
    assert (await client.delete(path, options)).code == 200
    assert (await client.get(f"{CLUSTERS}/support")).json["metadata"]["finalizers"] == finalizers


async def test_an_object_without_finalizers_waits_for_the_garbage_collector_to_free_its_dependents(
    client: Any, manifests: Any
) -> None:
    await client.post(NODES, manifests.node("n1"))
    marked = (await client.delete(f"{NODES}/n1", propagationPolicy="Orphan")).json
    assert marked["metadata"]["finalizers"] == ["orphan"]
    assert marked["metadata"]["deletionTimestamp"]
    assert (await client.get(f"{NODES}/n1")).code == 200


async def test_a_later_deletion_overrules_what_an_earlier_one_said_of_dependents(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    orphaning = (await client.delete(f"{NODES}/n1", {"propagationPolicy": "Orphan"})).json
    silent = (await client.delete(f"{NODES}/n1")).json
    assert silent == orphaning
    foreground = (await client.delete(f"{NODES}/n1", {"propagationPolicy": "Foreground"})).json
    assert foreground["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert (await client.delete(f"{NODES}/n1", {"propagationPolicy": "Background"})).json["status"] == "Success"
    assert (await client.get(f"{NODES}/n1")).code == 404


async def test_dependents_that_cannot_be_kept_are_not_deleted_either(client: Any) -> None:
    template = {"name": "t", "runtime": {"python": "m:C"}}
    await client.post(SETS, {"metadata": {"name": "lone"}, "spec": {"replicas": 2, "template": template}})
    await client.post(NAMESPACES, {"metadata": {"name": "team"}})
    for path in (f"{SETS}/lone", f"{NAMESPACES}/team"):
        refused = await client.delete(path, {"propagationPolicy": "Orphan"})
        assert (refused.code, refused.json["details"]["causes"][0]["field"]) == (422, "propagationPolicy")
        assert "deletionTimestamp" not in (await client.get(path)).json["metadata"]


async def test_a_propagation_that_makes_no_sense_is_refused(client: Any, manifests: Any) -> None:
    await client.post(NODES, manifests.node("n1"))
    assert (await client.delete(f"{NODES}/n1", {"propagationPolicy": "Never"})).code == 422
    both = {"propagationPolicy": "Orphan", "orphanDependents": True}
    assert (await client.delete(f"{NODES}/n1", both)).code == 422
    assert (await client.get(f"{NODES}/n1")).code == 200


async def test_a_collection_is_deleted_through_a_selector(client: Any, manifests: Any) -> None:
    for number in range(4):
        await client.post(NODES, manifests.node(f"n{number}", tier="a" if number < 3 else "b"))
    deleted = await client.delete(NODES, labelSelector="tier=a")
    assert len(deleted.json["items"]) == 3
    assert [item["metadata"]["name"] for item in (await client.get(NODES)).json["items"]] == ["n3"]


async def test_namespaces_admit_content_only_while_they_live(client: Any, manifests: Any) -> None:
    elsewhere = CLUSTERS.replace("default", "team")
    missing = await client.post(elsewhere, manifests.cluster())
    assert (missing.code, missing.json["message"]) == (404, 'namespaces "team" not found')
    await client.post(NAMESPACES, {"metadata": {"name": "team"}})
    assert (await client.post(elsewhere, manifests.cluster())).code == 201
    terminating = (await client.delete(f"{NAMESPACES}/team")).json
    assert terminating["metadata"]["finalizers"] == ["kubernetes"]
    assert terminating["status"]["phase"] == "Terminating"
    refused = await client.post(elsewhere, manifests.cluster("another"))
    assert refused.code == 403
    assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    assert (await client.delete(f"{NAMESPACES}/default")).code == 403


async def test_a_namespace_is_labelled_with_its_name_whatever_clients_say(client: Any) -> None:
    label = "kubernetes.io/metadata.name"
    made = (await client.post(NAMESPACES, {"metadata": {"name": "team", "labels": {label: "other", "a": "b"}}})).json
    assert made["metadata"]["labels"] == {label: "team", "a": "b"}
    for wrong in ({label: None}, {label: "default"}, None):
        patched = (await client.patch(f"{NAMESPACES}/team", {"metadata": {"labels": wrong}})).json
        assert patched["metadata"]["labels"][label] == "team"
    assert (await client.put(f"{NAMESPACES}/team", {"metadata": {}})).json["metadata"]["labels"] == {label: "team"}
    found = (await client.get(NAMESPACES, labelSelector=f"{label} in (team, default)")).json
    assert [each["metadata"]["name"] for each in found["items"]] == ["default", "team"]
    assert (await client.patch(f"{NAMESPACES}/team", {"metadata": {"labels": "no"}})).code in (400, 422)


async def test_a_scale_reads_and_writes_the_replicas(client: Any) -> None:
    template = {"name": "t", "runtime": {"python": "m:C"}}
    body = {"metadata": {"name": "lone"}, "spec": {"replicas": 2, "region": "local", "template": template}}
    created = await client.post(SETS, body)
    assert created.code == 201, created.json
    scale = (await client.get(f"{SETS}/lone/scale")).json
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 2})
    patched = await client.patch(f"{SETS}/lone/scale", {"spec": {"replicas": 5}})
    assert patched.json["spec"] == {"replicas": 5}
    assert (await client.get(f"{SETS}/lone")).json["metadata"]["generation"] == 2
    assert (await client.put(f"{SETS}/lone/scale", scale)).code == 409
    scale["metadata"].pop("resourceVersion")
    assert (await client.put(f"{SETS}/lone/scale", scale)).json["spec"] == {"replicas": 2}
    assert (await client.patch(f"{SETS}/lone/scale", {"spec": {"replicas": "x"}})).code == 400
    assert (await client.patch(f"{SETS}/lone/scale", {"spec": {"replicas": -1}})).code == 422
    assert (await client.get(f"{CLUSTERS}/x/scale")).code == 404


@pytest.mark.parametrize("body", [{"spec": "x"}, {"spec": 5}, {"metadata": "x"}, {"metadata": [1]}, []])
async def test_something_that_is_no_scale_is_refused(client: Any, body: Any) -> None:
    template = {"name": "t", "runtime": {"python": "m:C"}}
    await client.post(SETS, {"metadata": {"name": "lone"}, "spec": {"replicas": 2, "template": template}})
    for send in (client.patch, client.put):
        refused = await send(f"{SETS}/lone/scale", body)
        assert (refused.code, refused.json["reason"]) == (400, "BadRequest"), refused.json
    assert (await client.get(f"{SETS}/lone/scale")).json["spec"] == {"replicas": 2}


@pytest.mark.parametrize("body", [b'{"metadata":{"name":"\xed\xa0\x80"}}', b'{"\\ud800":1}', b"\xff\xfe", b"", b"{"])
async def test_a_body_that_is_no_text_is_refused(client: Any, body: bytes) -> None:
    for media_type in ("json", "yaml"):
        assert (await client.request("POST", CLUSTERS, body, content=f"application/{media_type}")).code == 400


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"apiVersion": "apps/v1"}, "does not match the expected API version"),
        ({"kind": "Other"}, "does not match the expected kind"),
        ({"metadata": {"name": "x", "namespace": "other"}}, "does not match the namespace"),
        ({"metadata": {"name": "x", "resourceVersion": "1"}}, "resourceVersion should not be set"),
        ({"metadata": []}, "metadata must be an object"),
        ({"metadata": {"name": "x", "finalizers": "y"}}, "finalizers must be a list"),
    ],
)
async def test_a_body_that_contradicts_its_path_is_refused(
    client: Any, manifests: Any, changes: Any, message: str
) -> None:
    refused = await client.post(CLUSTERS, {**manifests.cluster(), **changes})
    assert refused.code == 400
    assert message in refused.json["message"]


async def test_an_object_cannot_be_renamed_by_writing_it(client: Any, manifests: Any) -> None:
    await client.post(CLUSTERS, manifests.cluster())
    refused = await client.put(f"{CLUSTERS}/support", manifests.cluster("other"))
    assert (refused.code, refused.json["reason"]) == (400, "BadRequest")
    assert (await client.put(f"{CLUSTERS}/missing", manifests.cluster("missing"))).code == 404
    assert (await client.post(CLUSTERS, manifests.cluster())).code == 409


@pytest.mark.parametrize(
    ("plural", "spec", "answered"),
    [
        ("serviceaccounts", {}, "ServiceAccount"),
        ("resourcequotas", {"spec": {"hard": {"count/configmaps": "3"}}}, "ResourceQuota"),
        ("configmaps", {}, "Status"),
        ("secrets", {}, "Status"),
    ],
)
async def test_a_deletion_is_answered_as_clients_know_it_of_the_kind(
    client: Any, plural: str, spec: Any, answered: str
) -> None:
    path = f"/api/v1/namespaces/default/{plural}"
    made = (await client.post(path, {"metadata": {"name": "x"}, **spec})).json
    tried = await client.delete(f"{path}/x", dryRun="All")
    gone = await client.delete(f"{path}/x")
    for reply in (tried, gone):
        assert (reply.code, reply.json["kind"], reply.json["apiVersion"]) == (200, answered, "v1")
        told = reply.json["details"] if answered == "Status" else reply.json["metadata"]
        assert (told["name"], told["uid"]) == ("x", made["metadata"]["uid"])
    assert (await client.get(f"{path}/x")).code == 404
