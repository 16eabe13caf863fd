"""The real kubectl against a real machine: what a user does to a fleet, from apply to delete."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e_machine import BIN, Object, UpProcess, as_yaml, cluster, deleted, ready_agents, until, wait_for

from choregos.client import Client

pytestmark = pytest.mark.real


def apply(machine: UpProcess, *objects: Object) -> str:
    return machine.kubectl("apply", "-f", "-", given=as_yaml(*objects))


def wait_ready(machine: UpProcess, name: str) -> None:
    machine.kubectl("wait", "--for=condition=Ready", f"agentcluster/{name}", "--timeout=60s")


def names(machine: UpProcess, selector: str) -> list[str]:
    return machine.kubectl("get", "agents", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split()


async def test_from_apply_to_delete(machine: UpProcess, client: Client):
    worker = machine.template("worker", "Worker", 4, labels={"tier": "gold"}, capabilities=["work", "more_work"])
    assert apply(machine, cluster("shop", worker)) == "agentcluster.choregos.dev/shop created\n"
    wait_ready(machine, "shop")
    assert apply(machine, cluster("shop", worker)) == "agentcluster.choregos.dev/shop unchanged\n"
    table = machine.kubectl("get", "agentclusters,agentsets,agents,agentnodes", "-o", "wide")
    for row in (
        "agentcluster.choregos.dev/shop",
        "agentset.choregos.dev/shop-worker",
        "agent.choregos.dev/shop-worker-3",
    ):
        assert row in table
    rows = machine.kubectl("get", "agents", "-l", "tier=gold,choregos.dev/cluster=shop", "--no-headers").splitlines()
    assert [row.split()[:3] for row in rows] == [[f"shop-worker-{n}", "True", "Running"] for n in range(4)]
    [row] = machine.kubectl("get", "agentnodes", "--no-headers").splitlines()
    assert row.split()[1] == "Ready"
    described = machine.kubectl("describe", "agent", "shop-worker-0")
    assert "more_work" in described
    assert "Running" in described
    described = machine.kubectl("describe", "agentcluster", "shop")
    assert "AllAgentsReady" in described
    assert "created agent set shop-worker" in described
    await deleted(client, "shop")
    assert names(machine, "choregos.dev/cluster=shop") == []
    assert "shop" not in machine.kubectl("get", "agentsets,agentclusters", "--ignore-not-found")


async def test_scale_up_and_down_and_the_manifest_again(machine: UpProcess, client: Client):
    apply(machine, cluster("elastic", machine.template("worker", "Worker", 2)))
    wait_ready(machine, "elastic")
    set_name, selector = "elastic-worker", "choregos.dev/set=elastic-worker"
    assert "scaled" in machine.kubectl("scale", "agentset", set_name, "--replicas=5")
    machine.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=5", f"agentset/{set_name}", "--timeout=60s")
    assert names(machine, selector) == [f"elastic-worker-{n}" for n in range(5)]
    machine.kubectl("scale", "agentset", set_name, "--replicas=1")

    async def one_left() -> bool:
        return names(machine, selector) == ["elastic-worker-0"]

    await until(one_left, "one agent is left")
    machine.kubectl("scale", "agentset", set_name, "--replicas=0")
    machine.kubectl("wait", "--for=jsonpath={.status.replicas}=0", f"agentset/{set_name}", "--timeout=60s")
    apply(machine, cluster("elastic", machine.template("worker", "Worker", 3)))
    machine.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=3", f"agentset/{set_name}", "--timeout=60s")
    await deleted(client, "elastic")


async def test_a_deleted_agent_is_drained_and_replaced(machine: UpProcess, client: Client):
    apply(machine, cluster("phoenix", machine.template("witness", "Witness", 3)))
    wait_ready(machine, "phoenix")
    before = {agent["metadata"]["uid"] for agent in await client.list("agents")}
    gone = (await client.get("agent", "phoenix-witness-1"))["metadata"]["uid"]
    assert "deleted" in machine.kubectl("delete", "agent", "phoenix-witness-1", "--timeout=60s")

    async def back() -> bool:
        found = {agent["metadata"]["uid"] for agent in await ready_agents(client, "choregos.dev/cluster=phoenix")}
        return len(found) == 3 and before - found == {gone}

    await until(back, "there are three again")
    assert not (machine.places / "TWINS").exists()
    await deleted(client, "phoenix")


async def test_deleting_a_cluster_with_kubectl_waits_until_all_is_gone(machine: UpProcess):
    apply(machine, cluster("gone", machine.template("witness", "Witness", 20)))
    wait_ready(machine, "gone")
    assert machine.kubectl("delete", "agentcluster", "gone", "--timeout=60s").startswith("agentcluster")
    for kind in ("agentclusters", "agentsets", "agents"):
        found = machine.kubectl("get", kind, "-o", "name").split()
        assert not [name for name in found if "/gone" in name]


@contextmanager
def watching(machine: UpProcess, *argv: str) -> Iterator[Path]:
    """A kubectl that watches; its output, as it grows."""
    path = machine.places / "watched"
    with path.open("wb") as output:
        process = subprocess.Popen([str(BIN / "kubectl"), *argv], env=machine.environment, stdout=output, stderr=output)
    try:
        yield path
    finally:
        process.terminate()
        process.wait()


async def test_watch_shows_agents_come_and_go(machine: UpProcess, client: Client):
    with watching(machine, "get", "agents", "-l", "choregos.dev/cluster=seen", "-w", "--no-headers") as output:
        apply(machine, cluster("seen", machine.template("worker", "Worker", 2)))

        def lines() -> list[list[str]]:
            return [line.split()[:3] for line in output.read_text().splitlines()]

        for number in range(2):
            wait_for(lambda: [f"seen-worker-{number}", "True", "Running"] in lines(), "the agent is seen ready")  # noqa: B023
        await deleted(client, "seen")
        wait_for(
            lambda: any(line[2] == "Terminating" for line in lines() if len(line) == 3), "the agents are seen to end"
        )


@pytest.mark.parametrize(("surge", "unavailable"), [("25%", "25%"), (2, 0), (0, 1), ("100%", "50%")])
async def test_a_replacement_keeps_its_bounds_at_every_moment(
    machine: UpProcess, client: Client, surge: str | int, unavailable: str | int
):
    size = 8

    def share(value: str | int, *, up: bool) -> int:
        if isinstance(value, int):
            return value
        exact = size * int(value.rstrip("%")) / 100
        return -int(-exact // 1) if up else int(exact)

    most, least = size + share(surge, up=True), size - share(unavailable, up=False)

    def manifest(version: str) -> Object:
        strategy = {"maxSurge": surge, "maxUnavailable": unavailable}
        return cluster(
            "rolling", machine.template("agent", "NotFast", size, settings={"version": version}, strategy=strategy)
        )

    apply(machine, manifest("1"))
    wait_ready(machine, "rolling")
    listing = await client.listing("agents", selector="choregos.dev/set=rolling-agent")
    old = {agent["metadata"]["uid"] for agent in listing.items}
    agents = {agent["metadata"]["name"]: agent for agent in listing.items}
    apply(machine, manifest("2"))
    counts = []
    async for event in client.watch("agents", selector="choregos.dev/set=rolling-agent", after=listing):
        name = event.object["metadata"]["name"]
        if event.type == "DELETED":
            agents.pop(name, None)
        else:
            agents[name] = event.object
        ready = [agent for agent in agents.values() if agent["status"].get("ready")]
        staying = [agent for agent in agents.values() if not agent["metadata"].get("deletionTimestamp")]
        counts.append((len(staying), len(ready)))
        if len(agents) == len(ready) == size and not any(agent["metadata"]["uid"] in old for agent in ready):
            break
    assert max(existing for existing, _ in counts) <= most
    assert min(ready for _, ready in counts) >= least
    wait_ready(machine, "rolling")
    versions = [
        (await client.call(agent=name, method="who"))["version"]
        for name in names(machine, "choregos.dev/set=rolling-agent")
    ]
    assert versions == ["2"] * size
    await deleted(client, "rolling")


async def test_a_replacement_that_never_becomes_ready_stops_at_its_bounds_and_can_be_taken_back(
    machine: UpProcess, client: Client
):
    good = machine.template("agent", "Worker", 4, strategy={"maxSurge": 1, "maxUnavailable": 1})
    apply(machine, cluster("stuck", good))
    wait_ready(machine, "stuck")
    apply(machine, cluster("stuck", {**good, "runtime": {**good["runtime"], "python": "witness:NoSuchClass"}}))

    async def failing() -> bool:
        agents = await client.list("agents", selector="choregos.dev/set=stuck-agent")
        return any(agent["status"].get("reason") == "ImportFailed" for agent in agents)

    await until(failing, "the new template fails")
    assert len(await ready_agents(client, "choregos.dev/set=stuck-agent")) >= 3
    apply(machine, cluster("stuck", good))
    wait_ready(machine, "stuck")
    assert len(await ready_agents(client, "choregos.dev/set=stuck-agent")) == 4
    await deleted(client, "stuck")


def test_explain_and_json_are_whole(machine: UpProcess):
    assert "blockTimeoutSeconds" in machine.kubectl("explain", "agentclusters.spec.agents", "--recursive")
    node = json.loads(machine.kubectl("get", "agentnodes", "-o", "json"))["items"][0]
    assert node["status"]["capacity"]["cpu"] == "64"
    assert node["status"]["nodeInfo"]["pid"] == machine.only("node").pid
