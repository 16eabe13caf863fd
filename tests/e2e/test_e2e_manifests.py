"""Manifests: the published shapes on declared capacity, what does not fit, what has no code, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from e2e_machine import Object, UpProcess, as_yaml, cluster, condition, deleted, until, wait_for

from choregos.client import Client

pytestmark = pytest.mark.real

ENTRY_POINTS = {
    "nlp_agent": "published:Known",
    "conversation_agent": "published:Known",
    "knowledge_agent": "published:Known",
    "escalation_agent": "published:Known",
    "packaged": "published:Known",
}

CODE = """
from choregos import Agent, capability


class Known(Agent):
    @capability("natural_language_processing")
    async def where(self) -> str:
        return __file__
"""

FIRST_SHAPE = """
apiVersion: v1
kind: AgentCluster
metadata:
  name: multi-agent-platform
spec:
  orchestrator:
    type: hierarchical
    levels:
    - name: fleet_orchestrator
      scope: global
      responsibilities: [resource_allocation, load_balancing]
    - name: node_manager
      scope: node
      responsibilities: [agent_lifecycle]
    - name: agent_supervisor
      scope: agent-group
      responsibilities: [health_monitoring]
  agents:
  - name: nlp_agent
    replicas: 10
    resources:
      cpu: 2
      memory: 4Gi
      gpu: 1
    capabilities: [natural_language_processing, sentiment_analysis]
"""

SECOND_SHAPE = """
apiVersion: v1
kind: AgentCluster
metadata:
  name: customer-service
spec:
  replicas: 60
  regions:
  - name: local
    agent_distribution:
      conversation_agents: 30
      knowledge_agents: 20
      escalation_agents: 10
  auto_scaling:
    enabled: false
    min_replicas: 10
    max_replicas: 100
    target_utilization: 70%
    scale_up_threshold: 80%
    scale_down_threshold: 50%
  resource_management:
    conversation_agent: {cpu: 500m, memory: 1Gi, gpu: 0}
    knowledge_agent: {cpu: 1, memory: 2Gi, gpu: 0}
    escalation_agent: {cpu: 250m, memory: 512Mi, gpu: 0}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """A machine with the capacity of the published examples, and an installed package with agents."""
    place = tmp_path_factory.mktemp("machine")
    site = place / "site"
    information = site / "published_agents-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "published.py").write_text(CODE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: published-agents\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {target}" for name, target in ENTRY_POINTS.items())
    (information / "entry_points.txt").write_text(f"[choregos.agents]\n{lines}\n")
    up = UpProcess(
        place / "data",
        place / "notes",
        *("--api-port", "0", "--workers", "2", "--capacity", "cpu=128,memory=512Gi,gpu=64"),
        environment={"PYTHONPATH": str(site)},
    )
    try:
        up.start()
        yield up
        up.stop()
    finally:
        up.kill_all()


@pytest.fixture
async def client(machine: UpProcess) -> AsyncIterator[Client]:
    async with machine.client() as client:
        yield client


@pytest.mark.parametrize(("text", "size"), [(FIRST_SHAPE, 10), (SECOND_SHAPE, 60)])
@pytest.mark.parametrize("group", ["v1", "choregos.dev/v1"])
@pytest.mark.parametrize("program", ["kubectl", "choregos"])
async def test_the_published_shapes_run_as_they_are(
    machine: UpProcess, client: Client, text: str, size: int, group: str, program: str
):
    text = text.replace("apiVersion: v1", f"apiVersion: {group}")
    name = yaml.safe_load(text)["metadata"]["name"]
    applied = machine.run(program, "apply", "-f", "-", given=text)
    assert applied.code == 0, applied.err
    waited = machine.run(program, "wait", "--for=condition=Ready", f"agentcluster/{name}", "--timeout=60s")
    assert waited.code == 0, waited.err
    agents = await client.list("agents", selector=f"choregos.dev/cluster={name}")
    assert len(agents) == size
    assert all(agent["status"]["ready"] for agent in agents)
    path = await client.call(agent=agents[0]["metadata"]["name"], method="where")
    assert path.endswith("/site/published.py")
    await deleted(client, name)


async def test_an_entry_point_of_an_installed_package_is_found_by_the_templates_name(
    machine: UpProcess, client: Client
):
    await client.apply(cluster("installed", {"name": "packaged", "replicas": 1}))
    await client.wait("agentcluster", "installed", "condition=Ready", timeout_s=60)
    assert await client.call(capability="natural_language_processing", method="where")
    await deleted(client, "installed")


async def test_a_template_without_code_stays_pending_and_says_how_to_provide_it(machine: UpProcess, client: Client):
    await client.apply(cluster("codeless", {"name": "nobody_wrote_this", "replicas": 1}))
    agent = await _agent_that(client, "codeless-nobody-wrote-this-0", lambda agent: agent["status"].get("message"))
    said = f"{agent['status']} {condition(agent, 'Ready')}"
    assert "nobody_wrote_this" in said
    assert "choregos.agents" in said
    assert "runtime" in said
    assert agent["status"]["phase"] == "Pending"
    assert not agent["status"].get("ready")
    assert condition(agent, "Ready")["status"] == "False"
    assert "nobody_wrote_this" in machine.kubectl("describe", "agent", "codeless-nobody-wrote-this-0")
    fleet = await client.wait("agentcluster", "codeless", "condition=Ready=False", timeout_s=30)
    assert "codeless" in condition(fleet or {}, "Ready")["message"]
    await deleted(client, "codeless")


async def test_more_than_any_node_has_stays_pending_with_the_nearest_fit(machine: UpProcess, client: Client):
    greedy = {"name": "packaged", "replicas": 2, "resources": {"cpu": 4, "memory": "8Gi", "gpu": 65}}
    await client.apply(cluster("greedy", greedy))
    agent = await _agent_that(client, "greedy-packaged-0", lambda agent: condition(agent, "Scheduled").get("message"))
    scheduled = condition(agent, "Scheduled")
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
    assert "insufficient gpu (asked 65" in scheduled["message"]
    assert "nearest fit" in scheduled["message"]
    assert agent["status"]["phase"] == "Pending"
    table = machine.kubectl("get", "agents", "-l", "choregos.dev/cluster=greedy", "--no-headers")
    assert all(row.split()[2].startswith("Pending") for row in table.splitlines())
    wait_for(lambda: "FailedScheduling" in machine.kubectl("get", "events"), "an event says so")
    wait_for(
        lambda: "nearest fit" in machine.kubectl("get", "agentcluster", "greedy", "-o", "wide"),
        "the cluster's condition says so",
    )
    # What fits now starts by itself.
    await client.apply(cluster("greedy", {**greedy, "resources": {"gpu": 1}}))
    await client.wait("agentcluster", "greedy", "condition=Ready", timeout_s=60)
    await deleted(client, "greedy")


async def test_agents_that_wait_for_room_start_when_there_is_some(machine: UpProcess, client: Client):
    await client.apply(cluster("first", {"name": "packaged", "replicas": 1, "resources": {"gpu": 64}}))
    await client.wait("agentcluster", "first", "condition=Ready", timeout_s=60)
    await client.apply(cluster("second", {"name": "packaged", "replicas": 1, "resources": {"gpu": 1}}))
    await _agent_that(client, "second-packaged-0", lambda agent: condition(agent, "Scheduled").get("status") == "False")
    await deleted(client, "first")
    await client.wait("agentcluster", "second", "condition=Ready", timeout_s=60)
    await deleted(client, "second")


WRONG = {
    "apiVersion": "choregos.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "wrong"},
    "spec": {
        "agents": [
            {"name": "a", "replicas": -1, "resources": {"cpu": "much"}, "isolation": "none"},
            {"name": "a", "runtime": {"path": "/srv"}, "probes": {"liveness": {"periodSeconds": "often"}}},
        ]
    },
}
WRONG_PATHS = (
    "spec.agents[0].replicas",
    "spec.agents[0].resources.cpu",
    "spec.agents[0].isolation",
    "spec.agents[1].runtime.python",
    "spec.agents[1].probes.liveness.method",
    "spec.agents[1].probes.liveness.periodSeconds",
)


@pytest.mark.parametrize("program", ["kubectl", "choregos"])
@pytest.mark.parametrize("written", [as_yaml, json.dumps])
def test_an_invalid_manifest_lists_every_error_with_its_path(machine: UpProcess, program: str, written: object):
    refused = machine.run(program, "apply", "-f", "-", given=written(WRONG))  # type: ignore[operator]
    assert refused.code == {"kubectl": 1, "choregos": 5}[program]
    for path in WRONG_PATHS:
        assert path in refused.err
    assert "wrong" not in machine.kubectl("get", "agentclusters,agentsets,agents", "--ignore-not-found")


@pytest.mark.parametrize("program", ["kubectl", "choregos"])
def test_unknown_fields_and_kinds_are_refused(machine: UpProcess, program: str):
    unknown = cluster("wrong", {"name": "a", "replcias": 3})
    refused = machine.run(program, "apply", "-f", "-", given=as_yaml(unknown))
    assert refused.code != 0
    assert "replcias" in refused.err
    refused = machine.run(program, "apply", "-f", "-", given=as_yaml({**unknown, "kind": "AgentHerd"}))
    assert refused.code != 0
    assert "AgentHerd" in refused.err


@pytest.mark.parametrize("text", ["{", "a: [", "- 1\n- 2\n", "kind: AgentCluster\n", "\x00", ""])
def test_a_file_that_is_no_manifest_is_told_without_a_traceback(machine: UpProcess, tmp_path: Path, text: str):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    refused = machine.choregos("apply", "-f", str(path))
    assert refused.code in (2, 3, 5)
    assert "odd.yaml" in refused.err
    assert "inside choregos" not in refused.err


async def _agent_that(client: Client, name: str, holds: object) -> Object:
    found: list[Object] = []

    async def look() -> bool:
        found[:] = [a for a in await client.list("agents") if a["metadata"]["name"] == name and holds(a)]  # type: ignore[operator]
        return bool(found)

    await until(look, f"agent {name} is as it should be")
    return found[0]
