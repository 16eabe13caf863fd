"""A namespace with a quota on a real machine: what runs in it stays within, whichever way somebody tries."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from e2e_machine import Object, Result, UpProcess, as_yaml, cluster, wait_for

pytestmark = pytest.mark.real


@pytest.fixture
def team(machine: UpProcess) -> Iterator[str]:
    machine.kubectl("create", "namespace", "team")
    yield "team"
    machine.kubectl("delete", "namespace", "team", "--timeout=60s")


def used(machine: UpProcess, team: str, name: str = "bound") -> dict[str, str]:
    text = machine.kubectl("get", "quota", name, "-n", team, "-o", "jsonpath={.status.used}")
    return dict(json.loads(text)) if text else {}


def apply(machine: UpProcess, team: str, replicas: int, name: str = "desk") -> Result:
    template = machine.template("worker", "Worker", replicas, resources={"cpu": "100m", "memory": "16Mi"})
    manifest = as_yaml(cluster(name, template, namespace=team))
    return machine.run("kubectl", "apply", "-f", "-", given=manifest)


def test_a_namespace_keeps_within_its_quota(machine: UpProcess, team: str) -> None:
    machine.kubectl("create", "quota", "bound", "-n", team, "--hard=agents=4,cpu=1,count/agentclusters.choregos.dev=2")
    wait_for(lambda: used(machine, team).get("agents") == "0", "the quota knows what is used")
    refused = apply(machine, team, 5)
    assert refused.code != 0
    assert "exceeded quota: bound, requested: agents=5, used: agents=0, limited: agents=4" in refused.err
    assert apply(machine, team, 3).code == 0
    machine.kubectl("wait", "--for=condition=Ready", "agentcluster/desk", "-n", team, "--timeout=60s")
    assert used(machine, team) == {"agents": "3", "cpu": "300m", "count/agentclusters.choregos.dev": "1"}
    said = "exceeded quota: bound, requested: agents=2, used: agents=3, limited: agents=4"
    for refused in (
        machine.run("kubectl", "scale", "agentset", "desk-worker", "-n", team, "--replicas=5"),
        machine.choregos("scale", "agentset", "desk-worker", "-n", team, "--replicas", "5"),
        apply(machine, team, 5),
        machine.choregos(
            "apply", "-f", "-", given=as_yaml(cluster("more", machine.template("w", "Worker", 2), namespace=team))
        ),
    ):
        assert refused.code != 0
        assert said in refused.err, refused
    machine.kubectl("scale", "agentset", "desk-worker", "-n", team, "--replicas=4")
    wait_for(lambda: used(machine, team)["agents"] == "4", "the fourth is counted")
    for described in (
        machine.kubectl("describe", "quota", "bound", "-n", team),
        machine.kubectl("describe", "namespace", team),
    ):
        assert ["agents", "4", "4"] in [line.split() for line in described.splitlines()]
    assert "agents: 4/4" in machine.choregos("get", "quota", "-n", team).out
    assert "agents" in machine.choregos("describe", "quota", "bound", "-n", team).out
    # What goes makes room, at the latest when it has gone.
    machine.kubectl("delete", "agentcluster", "desk", "-n", team, "--timeout=60s")
    wait_for(lambda: used(machine, team)["agents"] == "0", "nothing is used")
    assert apply(machine, team, 4, "next").code == 0
    machine.kubectl("wait", "--for=condition=Ready", "agentcluster/next", "-n", team, "--timeout=60s")


def own_set(machine: UpProcess, name: str, resources: Object, **spec: object) -> str:
    template = machine.template("worker", "Worker", resources=resources)
    del template["replicas"]
    return as_yaml(
        {
            "apiVersion": "choregos.dev/v1",
            "kind": "AgentSet",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"template": template, **spec},
        }
    )


def patch(machine: UpProcess, name: str, **spec: object) -> Result:
    body = json.dumps({"spec": spec})
    return machine.run("kubectl", "patch", "agentset", name, "-n", "team", "--type=merge", "-p", body)


CPUS = "jsonpath={.items[*].spec.resources.cpu}"


def test_a_pause_leads_past_no_quota(machine: UpProcess, team: str) -> None:
    machine.kubectl("create", "quota", "bound", "-n", team, "--hard=agents=100,cpu=100m")
    large, small = {"cpu": "100m", "memory": "16Mi"}, {"cpu": "1m", "memory": "16Mi"}
    machine.kubectl("apply", "-f", "-", given=own_set(machine, "p", large))
    machine.kubectl("wait", "--for=condition=Ready", "agentset/p", "-n", team, "--timeout=60s")
    assert patch(machine, "p", paused=True, replicas=50, template={"resources": small}).code == 0
    waiting = "--for=jsonpath={.status.conditions[?(@.type=='Progressing')].reason}=LargerThanDeclared"
    machine.kubectl("wait", waiting, "agentset/p", "-n", team, "--timeout=60s")
    assert machine.kubectl("get", "agents", "-n", team, "-o", CPUS).split() == ["100m"]
    assert "LargerThanDeclared" in machine.kubectl("describe", "agentset", "p", "-n", team)
    # What runs counts, so nothing else fits beside it.
    wait_for(lambda: used(machine, team) == {"agents": "50", "cpu": "100m"}, "what runs is counted")
    assert patch(machine, "p", paused=False).code == 0
    machine.kubectl("wait", "--for=condition=Ready", "agentset/p", "-n", team, "--timeout=120s")
    wait_for(lambda: used(machine, team) == {"agents": "50", "cpu": "50m"}, "what was large has gone")


def test_a_rollout_without_an_end_leads_past_no_quota(machine: UpProcess, team: str) -> None:
    machine.kubectl("create", "quota", "bound", "-n", team, "--hard=agents=100,cpu=100m")
    large = {"cpu": "90m", "memory": "16Mi"}
    careful = {"maxSurge": 1, "maxUnavailable": 0}
    machine.kubectl("apply", "-f", "-", given=own_set(machine, "a", large, strategy=careful))
    machine.kubectl("wait", "--for=condition=Ready", "agentset/a", "-n", team, "--timeout=60s")
    broken = {"resources": {"cpu": "1m"}, "runtime": {"python": "nosuch:Worker"}}
    assert patch(machine, "a", template=broken).code == 0
    wait_for(lambda: used(machine, team) == {"agents": "2", "cpu": "91m"}, "both are counted")
    refused = machine.run("kubectl", "apply", "-f", "-", given=own_set(machine, "b", large))
    assert refused.code != 0
    assert "exceeded quota: bound, requested: cpu=90m, used: cpu=91m, limited: cpu=100m" in refused.err
    machine.kubectl("delete", "agentset", "a", "-n", team, "--timeout=60s")
    wait_for(lambda: used(machine, team)["cpu"] == "0", "nothing is used")
    machine.kubectl("apply", "-f", "-", given=own_set(machine, "b", large))
    machine.kubectl("wait", "--for=condition=Ready", "agentset/b", "-n", team, "--timeout=60s")


def test_a_quota_lowered_below_what_runs_ends_nobody(machine: UpProcess, team: str) -> None:
    assert apply(machine, team, 3).code == 0
    machine.kubectl("wait", "--for=condition=Ready", "agentcluster/desk", "-n", team, "--timeout=60s")
    machine.kubectl("create", "quota", "bound", "-n", team, "--hard=pods=1")
    wait_for(lambda: used(machine, team) == {"pods": "3"}, "what was there is counted")
    refused = apply(machine, team, 4)
    assert "requested: pods=1, used: pods=3, limited: pods=1" in refused.err
    rows = machine.kubectl("get", "pods", "-n", team, "--no-headers").splitlines()
    assert len(rows) == 3
    assert apply(machine, team, 2).code == 0
    wait_for(lambda: used(machine, team) == {"pods": "2"}, "it may always shrink")
    machine.kubectl("delete", "quota", "bound", "-n", team)
    assert apply(machine, team, 4).code == 0
