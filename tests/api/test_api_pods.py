from __future__ import annotations

from typing import Any

import pytest

from choregos.api.projections.pods import FIELDS, pod
from choregos.resources import validation
from choregos.resources.kinds.projected.pod import POD
from choregos.resources.selectors import field_text
from choregos.store.instance import Group, Instance, Template
from choregos.wire.instances import AgentRecord, Phase, StatusRecord

PODS = "/api/v1/namespaces/default/pods"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
SPEC = {
    "name": "web",
    "runtime": {"python": "shop:Web"},
    "resources": {"cpu": "10m", "memory": "16Mi", "gpu": "1"},
    "env": {"B": "2", "A": "1"},
    "placement": {"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
    "terminationGracePeriodSeconds": 7,
}


def instance(
    phase: Phase | None, *, node: str = "n1", deletion_ms: int = 0, spec: Any = SPEC, **fields: Any
) -> Instance:
    why = ("", "") if node else ("Unschedulable", "0 of 1 nodes: 1 cordoned")
    record = AgentRecord(1, "u", "web", "set-uid", "d1", node, 1, 1_000_000, deletion_ms, 7, *why)
    status = None
    if phase is not None:
        fields = {"ready": False, "host": "", "restarts": 0, "since_ms": 2_000_000, **fields}
        status = StatusRecord(1, "u", 1, phase, **fields)
    group = Group("local", "web", "set-uid", Template("default", "d1", spec, 1))
    return Instance("default", "web-0", record, 3, status, None, 5, group)


@pytest.mark.parametrize(
    ("one", "phase", "state", "started"),
    [
        (instance(None), "Pending", {"waiting": {"reason": "Assigned"}}, False),
        (instance(Phase.PENDING, reason="NodeRestarted"), "Pending", {"waiting": {"reason": "NodeRestarted"}}, False),
        (instance(Phase.STARTING, host="w"), "Pending", {"waiting": {"reason": "Starting"}}, False),
        (instance(Phase.STARTING, host="w", restarts=1), "Running", {"waiting": {"reason": "Starting"}}, False),
        (instance(Phase.RUNNING, ready=True, host="w"), "Running", "running", True),
        (instance(Phase.RUNNING, reason="NotReady", host="w"), "Running", "running", True),
        (instance(Phase.STOPPING, host="w", deletion_ms=1), "Running", "running", True),
        (instance(Phase.STOPPED, deletion_ms=1, reason="Stopped"), "Succeeded", "terminated", False),
        (instance(Phase.REJECTED, reason="OutOfCapacity"), "Pending", {"waiting": {"reason": "OutOfCapacity"}}, False),
        (
            instance(Phase.BACKOFF, reason="ImportFailed", message="no module", restarts=2),
            "Running",
            {"waiting": {"reason": "ImportFailed", "message": "no module"}},
            False,
        ),
    ],
)
def test_what_an_agent_does_is_what_its_pod_shows(one: Instance, phase: str, state: Any, started: bool) -> None:
    status = pod(one)["status"]
    [container] = status["containerStatuses"]
    assert status["phase"] == phase
    assert container["state"] == state or list(container["state"]) == [state]
    assert container["started"] is started
    ready = {each["type"]: each["status"] == "True" for each in status["conditions"]}
    assert ready == {
        "PodScheduled": True,
        "Initialized": True,
        "ContainersReady": container["ready"],
        "Ready": container["ready"],
    }


def test_a_pod_without_a_node_says_why_and_has_no_container_yet() -> None:
    status = pod(instance(None, node=""))["status"]
    assert "containerStatuses" not in status
    assert status["message"] == "0 of 1 nodes: 1 cordoned"
    assert {(each["reason"], each["message"]) for each in status["conditions"]} == {
        ("Unschedulable", "0 of 1 nodes: 1 cordoned")
    }


def test_a_pod_between_two_starts_shows_how_the_last_one_ended() -> None:
    one = instance(Phase.BACKOFF, reason="Crashed", message="Traceback …", restarts=3)
    [container] = pod(one)["status"]["containerStatuses"]
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert container["lastState"]["terminated"]["message"] == "Traceback …"
    assert container["restartCount"] == 3


def test_the_spec_is_that_of_the_template() -> None:
    spec = pod(instance(None))["spec"]
    [container] = spec["containers"]
    assert container["image"] == "python: shop:Web"
    assert container["resources"] == {"requests": {"cpu": "10m", "memory": "16Mi", "choregos.dev/gpu": "1"}}
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert (spec["nodeName"], spec["nodeSelector"]) == ("n1", {"zone": "a"})
    assert spec["tolerations"][0]["key"] == "gpu"
    assert spec["terminationGracePeriodSeconds"] == 7
    provided = pod(instance(None, spec={"name": "web", "resources": {"gpu": "0"}}))["spec"]["containers"][0]
    assert (provided["image"], provided["resources"]) == ("entry point: web", {})


@pytest.mark.parametrize("phase", [None, *Phase])
@pytest.mark.parametrize("node", ["n1", ""])
def test_a_pod_is_valid_by_its_own_schema_and_fields_agree_with_it(phase: Phase | None, node: str) -> None:
    one = instance(phase, node=node, message="m", reason="r")
    document = pod(one)
    assert not validation.validate(POD, document).unknown_fields
    assert {path: text(one) for path, text in FIELDS.items()} == {path: field_text(document, path) for path in FIELDS}


async def test_pods_are_the_agents(world: Any) -> None:
    await world.start_agents(3)
    shown = (await world.client.get(f"{PODS}/web-1")).json
    agent = (await world.client.get("/apis/choregos.dev/v1/namespaces/default/agents/web-1")).json
    assert shown["metadata"] == agent["metadata"]
    table = (await world.client.get(PODS, accept=TABLE)).json
    assert [row["cells"][:4] for row in table["rows"]] == [[f"web-{n}", "1/1", "Running", "0"] for n in range(3)]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("spec.nodeName=n1", ["web-0", "web-1"]),
        ("spec.nodeName=n1,status.phase!=Succeeded,status.phase!=Failed", ["web-0", "web-1"]),
        ("status.phase=Pending", ["idle-0"]),
        ("spec.nodeName=", ["idle-0"]),
        ("metadata.name=web-1,metadata.namespace=default", ["web-1"]),
        ("spec.schedulerName=choregos,status.phase!=Running", ["idle-0"]),
        (
            "spec.restartPolicy=Always,status.podIP=,spec.serviceAccountName=,spec.hostNetwork=false",
            ["idle-0", "web-0", "web-1"],
        ),
        ("spec.hostNetwork=true", []),
        ("status.podIPs!=10.0.0.1,status.nominatedNodeName=,spec.nodeName!=n1", ["idle-0"]),
    ],
)
async def test_pods_are_selected_by_their_fields(world: Any, selector: str, names: list[str]) -> None:
    await world.start_agents(2)
    await world.start_agents(1, agent_set="idle", node="", ready=False)
    for path in (PODS, "/api/v1/pods"):
        listed = (await world.client.get(path, fieldSelector=selector)).json
        assert [each["metadata"]["name"] for each in listed["items"]] == sorted(names)


async def test_only_what_is_shown_is_made(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch through a selector asks about each change and makes a Pod of those that match."""
    await world.start_agents(20)
    made = []
    source = world.app._sources["", "pods"]
    projection = source._projection
    monkeypatch.setattr(source, "_projection", type(projection)(lambda one: made.append(one) or pod(one), FIELDS))
    listed = (await world.client.get(PODS, fieldSelector="spec.nodeName=n1,status.phase=Running", limit=2)).json
    assert len(listed["items"]) == len(made) == 2
    made.clear()
    async with world.client.stream(PODS, watch="true", fieldSelector="spec.nodeName=n2", resourceVersion="0") as stream:
        await world.start_agents(1, agent_set="far", node="n2", ready=False)
        event = await stream.line()
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "far-0")
    assert len(made) == 1


async def test_the_status_of_a_pod_can_be_read_and_not_written(world: Any) -> None:
    await world.start_agents(1)
    read = await world.client.get(f"{PODS}/web-0/status")
    assert (read.code, read.json) == (200, (await world.client.get(f"{PODS}/web-0")).json)
    for method in ("PUT", "PATCH", "DELETE"):
        assert (await world.client.request(method, f"{PODS}/web-0/status", {})).code == 405, method
    assert (await world.client.get(f"{PODS}/none/status")).code == 404
    table = await world.client.get(f"{PODS}/web-0/status", accept=TABLE)
    assert table.json["rows"][0]["cells"][0] == "web-0"


async def test_a_deleted_pod_is_a_deleted_agent(world: Any) -> None:
    await world.start_agents(3)
    reply = await world.client.delete(f"{PODS}/web-0", {"gracePeriodSeconds": 0})
    assert (reply.code, reply.json["kind"]) == (200, "Pod")
    assert world.context.directory.get("default", "web-0").deletion.grace_s == 0
    reply = await world.client.delete(PODS, fieldSelector="metadata.name=web-1")
    assert (reply.json["kind"], len(reply.json["items"])) == ("PodList", 1)
    assert world.context.directory.get("default", "web-1").deletion is not None
    assert world.context.directory.get("default", "web-2").deletion is None


async def test_an_evicted_pod_is_a_deleted_agent(world: Any) -> None:
    await world.start_agents(1)
    path = f"{PODS}/web-0/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web-0", "namespace": "default"}}
    assert (await world.client.post(path, {**body, "metadata": {"name": "web-1"}})).code == 400
    assert (await world.client.post(path, {**body, "deleteOptions": {"dryRun": ["All"]}})).code == 201
    assert world.context.directory.get("default", "web-0").deletion is None
    uid = {"preconditions": {"uid": "other"}}
    assert (await world.client.post(path, {**body, "deleteOptions": uid})).code == 409
    reply = await world.client.post(path, {**body, "deleteOptions": {"gracePeriodSeconds": 3}})
    assert (reply.code, reply.json["status"]) == (201, "Success")
    assert world.context.directory.get("default", "web-0").deletion.grace_s == 3
    assert (await world.client.post(f"{PODS}/none/eviction", {})).code == 404


@pytest.mark.parametrize(("method", "path"), [("POST", PODS), ("PUT", f"{PODS}/web-0"), ("PATCH", f"{PODS}/web-0")])
async def test_a_pod_cannot_be_written_and_the_answer_says_what_to_do(world: Any, method: str, path: str) -> None:
    await world.start_agents(1)
    reply = await world.client.request(method, path, {}, content="application/merge-patch+json")
    assert reply.code == 405
    assert "change or scale the AgentCluster" in reply.json["message"]


async def test_discovery_tells_of_eviction_where_drain_looks_for_it(client: Any) -> None:
    resources = {each["name"]: each for each in (await client.get("/api/v1")).json["resources"]}
    eviction = resources["pods/eviction"]
    assert (eviction["group"], eviction["version"], eviction["kind"]) == ("policy", "v1", "Eviction")
    assert resources["pods"]["shortNames"] == ["po"]
    assert "create" not in resources["pods"]["verbs"]
