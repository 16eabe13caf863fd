"""cordon, uncordon, taint and drain with a real kubectl, and what they do to agents."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from e2e_machine import Object, UpProcess, applied, cluster, deleted, until

from choregos.client import Client

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def as_it_was(machine: UpProcess) -> Iterator[None]:
    """Whatever a test does to the node, the next one finds it open to all."""
    yield
    machine.kubectl("patch", "node", node_of(machine), "--type=merge", "-p", '{"spec": null}')


def node_of(machine: UpProcess) -> str:
    return machine.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")


def status_of(machine: UpProcess) -> str:
    return machine.kubectl("get", "nodes", "--no-headers").split()[1]


async def until_pending(client: Client, selector: str, count: int, why: str) -> None:
    """Returns when so many agents have no node, and say that this is why."""

    async def pending() -> bool:
        found = [agent for agent in await client.list("agents", selector=selector) if not agent["spec"].get("node")]
        return len(found) == count and all(why in agent["status"].get("message", "") for agent in found)

    await until(pending, f"{count} agents without a node because of {why!r}")


async def until_ready(client: Client, selector: str, count: int) -> list[Object]:
    found: list[Object] = []

    async def ready() -> bool:
        found[:] = [each for each in await client.list("agents", selector=selector) if each["status"].get("ready")]
        return len(found) == count

    await until(ready, f"{count} ready agents")
    return found


def scale(machine: UpProcess, agent_set: str, count: int) -> None:
    machine.kubectl("scale", "agentset", agent_set, f"--replicas={count}")


async def test_a_cordoned_node_keeps_its_agents_and_gets_no_others(machine: UpProcess, client: Client):
    node, selector = node_of(machine), "choregos.dev/cluster=kept"
    await applied(client, cluster("kept", machine.template("worker", "Worker", 2)))
    before = {agent["metadata"]["uid"] for agent in await until_ready(client, selector, 2)}
    assert machine.kubectl("cordon", node) == f"node/{node} cordoned\n"
    assert status_of(machine) == "Ready,SchedulingDisabled"
    assert machine.kubectl("get", "agentnodes", "--no-headers").split()[1] == "Ready,SchedulingDisabled"
    scale(machine, "kept-worker", 4)
    await until_pending(client, selector, 2, "cordoned")
    pending = machine.kubectl("get", "pods", "--field-selector=status.phase=Pending", "-o", "name").split()
    assert len(pending) == 2
    assert "cordoned" in machine.kubectl("describe", pending[0])
    assert before == {agent["metadata"]["uid"] for agent in await until_ready(client, selector, 2)}
    assert machine.kubectl("uncordon", node) == f"node/{node} uncordoned\n"
    await until_ready(client, selector, 4)
    await deleted(client, "kept")


async def test_taints_keep_away_drive_out_or_discourage(machine: UpProcess, client: Client):
    node, selector = node_of(machine), "choregos.dev/template=plain"
    tolerant = {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}
    plain, brave = machine.template("plain", "Worker"), machine.template("brave", "Worker", placement=tolerant)
    await applied(client, cluster("taints", plain, brave))
    [before] = await until_ready(client, selector, 1)
    machine.kubectl("taint", "node", node, "dedicated=gpu:PreferNoSchedule")
    scale(machine, "taints-plain", 2)
    await until_ready(client, selector, 2)
    machine.kubectl("taint", "node", node, "dedicated=gpu:NoSchedule")
    scale(machine, "taints-plain", 3)
    await until_pending(client, selector, 1, "dedicated=gpu:NoSchedule")
    scale(machine, "taints-brave", 2)
    await until_ready(client, "choregos.dev/template=brave", 2)
    await until_ready(client, selector, 2)
    machine.kubectl("taint", "node", node, "dedicated=gpu:NoExecute")
    await until_pending(client, selector, 3, "dedicated=gpu:No")
    await until_ready(client, "choregos.dev/template=brave", 2)
    taints = json.loads(machine.kubectl("get", "node", node, "-o", "json"))["spec"]["taints"]
    assert {taint["effect"] for taint in taints} == {"PreferNoSchedule", "NoSchedule", "NoExecute"}
    assert "dedicated=gpu:NoExecute" in machine.kubectl("describe", "node", node)
    machine.kubectl("taint", "node", node, "dedicated-")
    after = {agent["metadata"]["name"]: agent for agent in await until_ready(client, selector, 3)}
    # It was bound anew, not made anew.
    assert after["taints-plain-0"]["metadata"]["uid"] == before["metadata"]["uid"]
    assert "taints" not in json.loads(machine.kubectl("get", "agentnode", node, "-o", "json"))["spec"]
    await deleted(client, "taints")


async def test_a_drained_node_is_empty_and_its_agents_come_back_later(machine: UpProcess, client: Client):
    node, selector = node_of(machine), "choregos.dev/cluster=moved"
    await applied(client, cluster("moved", machine.template("witness", "Witness", 5)))
    before = {agent["metadata"]["uid"] for agent in await until_ready(client, selector, 5)}
    shown = machine.kubectl("drain", node, "--dry-run=server")
    assert shown.count("evicting pod default/moved") == 5 or "(server dry run)" in shown
    assert before == {agent["metadata"]["uid"] for agent in await client.list("agents", selector=selector)}
    drained = machine.kubectl("drain", node, "--timeout=60s", "--pod-selector", selector)
    assert f"node/{node} drained" in drained
    assert machine.kubectl("get", "pods", "-A", f"--field-selector=spec.nodeName={node}", "-o", "name") == ""
    await until_pending(client, selector, 5, "cordoned")
    described = machine.kubectl("describe", "node", node)
    assert "Non-terminated Pods:          (0 in total)" in described
    machine.kubectl("uncordon", node)
    after = {agent["metadata"]["uid"] for agent in await until_ready(client, selector, 5)}
    assert not before & after
    assert not (machine.places / "TWINS").exists()
    await deleted(client, "moved")


async def test_what_is_written_to_a_node_is_written_to_its_agentnode(machine: UpProcess):
    node = node_of(machine)
    machine.kubectl("label", "node", node, "node-role.kubernetes.io/edge=", "zone=a")
    machine.kubectl("annotate", "node", node, "note=x")
    assert machine.kubectl("get", "node", node, "--no-headers").split()[2] == "edge"
    assert node in machine.kubectl("get", "agentnodes", "-l", "zone=a", "-o", "name")
    patch = json.dumps({"spec": {"unschedulable": True}})
    machine.kubectl("patch", "node", node, "-p", patch)
    assert json.loads(machine.kubectl("get", "agentnode", node, "-o", "json"))["spec"]["unschedulable"] is True
    machine.kubectl("patch", "node", node, "--type=json", "-p", '[{"op": "remove", "path": "/spec/unschedulable"}]')
    machine.kubectl("label", "node", node, "node-role.kubernetes.io/edge-", "zone-")
    assert status_of(machine) == "Ready"
    machine.kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=10s")
    refused = machine.run("kubectl", "delete", "node", node)
    assert "delete the AgentNode" in refused.err
