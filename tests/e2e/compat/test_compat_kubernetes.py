"""The official Python client against a real machine: dynamic, custom objects, core, watch, streams, reviews, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e_machine import UpProcess, cluster, wait_for
from kubernetes import aio, client, config, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError
from kubernetes.informer import SharedInformer
from kubernetes.stream import stream

pytestmark = [
    pytest.mark.real,
    pytest.mark.usefixtures("shop", "collected"),
    # It leaves connections of streams that have ended to the collector of garbage.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

SETS = ("choregos.dev", "v1", "default", "agentsets")
CLUSTERS = ("choregos.dev", "v1", "default", "agentclusters")
MERGE = "application/merge-patch+json"


@pytest.fixture
def api(machine: UpProcess) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(machine.root / "kubeconfig")) as api:
        yield api


@pytest.fixture
def custom(api: client.ApiClient) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(api)


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


MakeSet = Callable[..., dict[str, Any]]


@pytest.fixture
def agent_set(machine: UpProcess) -> MakeSet:
    """Makes the manifest of an AgentSet."""

    def make(name: str, replicas: int = 1, **metadata: Any) -> dict[str, Any]:
        template = machine.template("worker", "Worker")
        del template["replicas"]
        metadata = {"name": name, "namespace": "default", **metadata}
        spec = {"replicas": replicas, "region": "local", "template": template}
        return {"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "metadata": metadata, "spec": spec}

    return make


def test_the_dynamic_client_finds_applies_scales_and_watches(
    api: client.ApiClient, agent_set: MakeSet, tmp_path: Path
) -> None:
    dynamic = DynamicClient(api, cache_file=str(tmp_path / "discovery.json"))
    sets = dynamic.resources.get(api_version="choregos.dev/v1", kind="AgentSet")
    assert {"status", "scale"} <= set(sets.subresources)
    where = {"name": "dynamic", "namespace": "default"}
    applied = sets.server_side_apply(body=agent_set("dynamic"), field_manager="one", **where)
    assert [entry.manager for entry in applied.metadata.managedFields] == ["one"]
    with pytest.raises(ConflictError) as conflict:
        sets.server_side_apply(body=agent_set("dynamic", 2), field_manager="two", **where)
    [cause] = json.loads(conflict.value.body)["details"]["causes"]
    assert (cause["message"], cause["field"]) == ('conflict with "one"', ".spec.replicas")
    forced = sets.server_side_apply(body=agent_set("dynamic", 2), field_manager="two", force_conflicts=True, **where)
    assert forced.spec.replicas == 2
    assert sets.scale.patch(body={"spec": {"replicas": 1}}, content_type=MERGE, **where).spec.replicas == 1
    seen = []
    for event in sets.watch(namespace="default", name="dynamic", timeout=30):
        seen.append((event["type"], event["object"].status.readyReplicas))
        if seen[-1][1] == 1:
            break
    assert seen[0][0] == "ADDED"
    sets.patch(body={"metadata": {"labels": {"a": "b"}}}, content_type=MERGE, **where)
    assert [found.metadata.name for found in sets.get(namespace="default", label_selector="a=b").items] == ["dynamic"]
    sets.delete(body={"propagationPolicy": "Foreground"}, **where)
    with pytest.raises(NotFoundError):
        wait_for(lambda: not sets.get(**where), "the set is gone")
    assert dynamic.version["kubernetes"]["gitVersion"].startswith("v1.")


def names(listing: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in listing["items"]]


def test_custom_objects_live_and_their_errors_say_why(custom: client.CustomObjectsApi, agent_set: MakeSet) -> None:
    made = custom.create_namespaced_custom_object(*SETS, agent_set("custom", 0, labels={"suite": "custom"}))
    name = "custom"
    assert custom.patch_namespaced_custom_object(*SETS, name, {"spec": {"replicas": 1}})["spec"]["replicas"] == 1
    assert custom.get_namespaced_custom_object_scale(*SETS, name)["spec"] == {"replicas": 1}
    with pytest.raises(ApiException) as stale:
        custom.replace_namespaced_custom_object(*SETS, name, made)
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    assert json.loads(stale.value.body)["reason"] == "Conflict"
    with pytest.raises(ApiException) as wrong:
        custom.patch_namespaced_custom_object(*SETS, name, {"spec": {"replicas": -1}})
    status = json.loads(wrong.value.body)
    assert (wrong.value.status, status["kind"], status["reason"], status["code"]) == (422, "Status", "Invalid", 422)
    assert [cause["field"] for cause in status["details"]["causes"]] == ["spec.replicas"]
    with pytest.raises(ApiException) as twice:
        custom.create_namespaced_custom_object(*SETS, agent_set("custom"))
    assert json.loads(twice.value.body)["reason"] == "AlreadyExists"
    with pytest.raises(ApiException) as unknown:
        custom.get_namespaced_custom_object(*SETS, "nobody")
    assert (unknown.value.status, unknown.value.reason) == (404, "Not Found")
    assert json.loads(unknown.value.body)["details"] == {"name": "nobody", "group": "choregos.dev", "kind": "agentsets"}
    assert unknown.value.headers["Content-Type"] == "application/json"
    with pytest.raises(ApiException) as nothing:
        custom.list_cluster_custom_object("example.org", "v1", "things")
    assert nothing.value.status == 404
    first = custom.list_namespaced_custom_object(*SETS, limit=1)
    rest = custom.list_namespaced_custom_object(*SETS, limit=5, _continue=first["metadata"]["continue"])
    everywhere = custom.list_cluster_custom_object("choregos.dev", "v1", "agentsets")
    assert names(first) + names(rest) == names(everywhere)
    gone = custom.delete_collection_namespaced_custom_object(*SETS, label_selector="suite=custom")
    assert names(gone) == ["custom"]


def test_watches_go_on_from_a_version_end_in_time_and_tell_of_what_is_lost(
    custom: client.CustomObjectsApi, agent_set: MakeSet
) -> None:
    listed = custom.list_namespaced_custom_object(*SETS)["metadata"]["resourceVersion"]
    custom.create_namespaced_custom_object(*SETS, agent_set("watched", 0))
    custom.delete_namespaced_custom_object(*SETS, "watched")
    watching = watch.Watch()
    types = []
    for event in watching.stream(
        custom.list_namespaced_custom_object,
        *SETS,
        resource_version=listed,
        timeout_seconds=30,
        field_selector="metadata.name=watched",
    ):
        types.append(event["type"])
        if event["type"] == "DELETED":
            watching.stop()
    assert (types[0], types[-1], set(types[1:-1]) - {"MODIFIED"}) == ("ADDED", "DELETED", set())
    assert int(watching.resource_version) > int(listed)
    # An end that the client asked for is an end without an error.
    ended = watch.Watch().stream(
        custom.list_namespaced_custom_object, *CLUSTERS, timeout_seconds=1, label_selector="no=such"
    )
    assert list(ended) == []
    with pytest.raises(ApiException) as lost:
        list(watch.Watch().stream(custom.list_namespaced_custom_object, *SETS, resource_version="1", timeout_seconds=5))
    assert (lost.value.status, "Expired" in lost.value.reason) == (410, True)


def test_pods_are_read_followed_entered_and_evicted(core: client.CoreV1Api, machine: UpProcess, tmp_path: Path) -> None:
    name, where = "shop-worker-0", ("shop-worker-0", "default")
    pod = core.read_namespaced_pod(*where)
    assert (pod.status.phase, pod.spec.containers[0].name, pod.status.start_time.tzinfo is not None) == (
        "Running",
        "agent",
        True,
    )
    assert machine.choregos("call", name, "say", '{"text": "hello"}').code == 0
    with closing(watch.Watch().stream(core.read_namespaced_pod_log, *where, follow=True)) as lines:
        assert next(lines).endswith("said: hello")
    shell = stream(
        core.connect_get_namespaced_pod_exec,
        *where,
        command=["sh"],
        **{"stdin": True, "stdout": True, "stderr": True, "tty": False, "_preload_content": False},
    )
    with closing(shell):
        shell.write_stdin("echo typed; echo wrong >&2; exit 3\n")
        shell.run_forever(timeout=30)
        assert (shell.read_stdout(), shell.read_stderr(), shell.returncode) == ("typed\n", "wrong\n", 3)
    evicted = core.create_namespaced_pod_eviction(
        *where, client.V1Eviction(metadata=client.V1ObjectMeta(name=name)), dry_run="All"
    )
    assert evicted.kind in ("Eviction", "Status")
    [node] = core.list_node().items
    assert node.metadata.name == pod.spec.node_name
    about = core.list_namespaced_event("default", field_selector="involvedObject.name=shop").items
    assert {event.reason for event in about} >= {"SuccessfulCreate", "Ready"}


def test_all_lists_are_what_the_models_expect(api: client.ApiClient, core: client.CoreV1Api) -> None:
    rbac, apps = client.RbacAuthorizationV1Api(api), client.AppsV1Api(api)
    for listing in (
        core.list_pod_for_all_namespaces,
        core.list_event_for_all_namespaces,
        core.list_config_map_for_all_namespaces,
        core.list_secret_for_all_namespaces,
        core.list_service_account_for_all_namespaces,
        core.list_service_for_all_namespaces,
        core.list_namespace,
        core.list_node,
        apps.list_controller_revision_for_all_namespaces,
        rbac.list_cluster_role,
        rbac.list_cluster_role_binding,
        rbac.list_role_for_all_namespaces,
        rbac.list_role_binding_for_all_namespaces,
    ):
        assert listing().metadata.resource_version, listing.__name__


def test_an_informer_keeps_up(core: client.CoreV1Api, custom: client.CustomObjectsApi, agent_set: MakeSet) -> None:
    selector = "choregos.dev/set=informed"
    informer = SharedInformer(core.list_namespaced_pod, "default", resync_period=2, label_selector=selector)
    informer.start()
    try:
        custom.create_namespaced_custom_object(*SETS, agent_set("informed"))
        [pod] = wait_for(informer.cache.list, "the informer has seen the pod")
        assert pod.metadata.name == "informed-0"
        custom.delete_namespaced_custom_object(*SETS, "informed")
        wait_for(lambda: not informer.cache.list(), "the informer has seen it go")
    finally:
        informer.stop()


async def test_its_asynchronous_half_reads_watches_and_applies(machine: UpProcess) -> None:
    async with await aio.config.new_client_from_config(str(machine.root / "kubeconfig")) as api:
        core = aio.client.CoreV1Api(api)
        pods = await core.list_namespaced_pod("default", label_selector="tier=gold")
        assert [pod.metadata.name for pod in pods.items] == ["shop-worker-0", "shop-worker-1"]
        options = {"label_selector": "tier=gold", "timeout_seconds": 1}
        async with aio.watch.Watch() as watching:
            seen = [event["type"] async for event in watching.stream(core.list_namespaced_pod, "default", **options)]
        assert seen == ["ADDED", "ADDED"]
        dynamic = await aio.dynamic.DynamicClient(api)
        clusters = await dynamic.resources.get(api_version="choregos.dev/v1", kind="AgentCluster")
        where = {"name": "shop", "namespace": "default"}
        body = {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "metadata": {**where, "labels": {"by": "aio"}}}
        applied = await clusters.server_side_apply(body=body, field_manager="aio", **where)
        assert applied.metadata.labels["by"] == "aio"


def test_core_objects_and_files_are_written_with_models(
    core: client.CoreV1Api, api: client.ApiClient, machine: UpProcess
) -> None:
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="models")))
    settings = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings", labels={"a": "b"}), data={"k": "v"})
    core.create_namespaced_config_map("models", settings)
    patched = core.patch_namespaced_config_map("settings", "models", {"data": {"k": None, "l": "w"}})
    assert (patched.data, patched.metadata.labels) == ({"l": "w"}, {"a": "b"})
    key = client.V1Secret(metadata=client.V1ObjectMeta(name="key"), string_data={"k": "v"})
    assert core.create_namespaced_secret("models", key).data == {"k": "dg=="}
    core.create_namespaced_service_account(
        "models", client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="robot"))
    )
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    assert core.create_namespaced_service_account_token("robot", "models", request).status.token.count(".") == 2
    worker = machine.template("worker", "Worker", 0)
    utils.create_from_yaml(
        api, yaml_objects=[cluster("filed", worker, namespace="models")], apply=True, namespace="models"
    )
    shown = client.CustomObjectsApi(api).get_namespaced_custom_object(
        "choregos.dev", "v1", "models", "agentclusters", "filed"
    )
    assert shown["spec"]["agents"][0]["name"] == "worker"
    core.delete_namespace("models")
    wait_for(
        lambda: "models" not in {each.metadata.name for each in core.list_namespace().items}, "the namespace is gone"
    )


def test_reviews_and_roles_decide_for_others(api: client.ApiClient, core: client.CoreV1Api) -> None:
    rbac, reviews = client.RbacAuthorizationV1Api(api), client.AuthorizationV1Api(api)
    rule = client.V1PolicyRule(api_groups=["choregos.dev"], resources=["agents"], verbs=["get", "list"])
    rbac.create_namespaced_role("default", client.V1Role(metadata=client.V1ObjectMeta(name="look"), rules=[rule]))
    rbac.create_namespaced_role_binding(
        "default",
        client.V1RoleBinding(
            metadata=client.V1ObjectMeta(name="look"),
            role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="look"),
            subjects=[client.RbacV1Subject(kind="User", name="ann", api_group="rbac.authorization.k8s.io")],
        ),
    )

    def may(verb: str) -> bool:
        asked = client.V1ResourceAttributes(group="choregos.dev", resource="agents", verb=verb, namespace="default")
        review = client.V1SubjectAccessReview(
            spec=client.V1SubjectAccessReviewSpec(user="ann", resource_attributes=asked)
        )
        allowed: bool = reviews.create_subject_access_review(review).status.allowed
        return allowed

    assert (may("list"), may("delete")) == (True, False)
    rules = client.V1SelfSubjectRulesReview(spec=client.V1SelfSubjectRulesReviewSpec(namespace="default"))
    assert "*" in reviews.create_self_subject_rules_review(rules).status.resource_rules[0].verbs
    me = client.AuthenticationV1Api(api).create_self_subject_review(client.V1SelfSubjectReview())
    assert "system:masters" in me.status.user_info.groups
    api.set_default_header("Impersonate-User", "ann")
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_secret("default")
    said = json.loads(refused.value.body)
    assert (refused.value.status, said["reason"]) == (403, "Forbidden")
    assert 'User "ann" cannot list resource "secrets"' in said["message"]


def test_models_of_what_was_deleted_and_of_statuses_fit(core: client.CoreV1Api) -> None:
    quota = {"metadata": {"name": "gone"}, "spec": {"hard": {"count/secrets": "9"}}}
    assert core.create_namespaced_resource_quota("default", quota).metadata.name == "gone"
    assert core.delete_namespaced_resource_quota("gone", "default").kind == "ResourceQuota"
    core.create_namespaced_service_account("default", {"metadata": {"name": "gone"}})
    assert core.delete_namespaced_service_account("gone", "default").kind == "ServiceAccount"
    node = core.list_node().items[0].metadata.name
    (ready,) = core.read_node_status(node).status.conditions
    assert ready.last_heartbeat_time >= ready.last_transition_time
