"""Rollouts on a real machine: followed, remembered, taken back, paused, repeated; by our command line and kubectl."""

from __future__ import annotations

import json
from typing import Any

import pytest
from e2e_fleet import until_event
from e2e_machine import Object, Result, UpProcess, cluster, deleted, ready_agents, until, wait_for

from choregos.client import Client

pytestmark = pytest.mark.real

CAUSE = "kubernetes.io/change-cause"


def apply(machine: UpProcess, name: str, template: Object, *, cause: str = "") -> None:
    manifest = cluster(name, template)
    if cause:
        manifest["metadata"]["annotations"] = {CAUSE: cause}
    machine.kubectl("apply", "-f", "-", given=json.dumps(manifest))


def rollout(machine: UpProcess, *words: str, code: int = 0) -> Result:
    result = machine.choregos("rollout", *words)
    assert result.code == code, f"rollout {' '.join(words)}: {result}"
    return result


def history(machine: UpProcess, agent_set: str) -> dict[str, str]:
    """Number → cause."""
    lines = rollout(machine, "history", f"agentset/{agent_set}").out.splitlines()[2:]
    return dict(line.split(maxsplit=1) for line in lines)  # type: ignore[arg-type]


async def versions(client: Client, agent_set: str) -> list[Any]:
    """What each agent of a set says that it is."""
    agents = await client.list("agents", selector=f"choregos.dev/set={agent_set}")
    names = sorted(agent["metadata"]["name"] for agent in agents)
    return [(await client.call(agent=name, method="who"))["version"] for name in names]


async def lives(client: Client, agent_set: str) -> set[str]:
    agents = await client.list("agents", selector=f"choregos.dev/set={agent_set}")
    return {agent["metadata"]["uid"] for agent in agents}


async def test_a_template_is_changed_taken_back_and_restarted(machine: UpProcess, client: Client):
    for version in ("1", "2"):
        template = machine.template("agent", "Worker", 4, settings={"version": version})
        apply(machine, "change", template, cause=f"version {version}")
        said = rollout(machine, "status", "agentcluster/change").out
        assert said.endswith('agentcluster "change" successfully rolled out\n')
        assert await versions(client, "change-agent") == [version] * 4
    assert history(machine, "change-agent") == {"1": "version 1", "2": "version 2"}

    said = rollout(machine, "undo", "agentset/change-agent").out
    assert said == (
        "agentset.choregos.dev/change-agent rolled back to revision 1, "
        "in the manifest of agentcluster.choregos.dev/change\n"
    )
    rollout(machine, "status", "agentset/change-agent")
    assert await versions(client, "change-agent") == ["1"] * 4
    assert history(machine, "change-agent") == {"2": "version 2", "3": "version 1"}
    entry = (await client.get("agentcluster", "change"))["spec"]["agents"][0]
    assert entry == machine.template("agent", "Worker", 4, settings={"version": "1"})

    rows = machine.kubectl("get", "controllerrevisions", "-l", "choregos.dev/set=change-agent", "--no-headers")
    assert sorted(row.split()[1:3] for row in rows.splitlines()) == [
        ["agentset.choregos.dev/change-agent", "2"],
        ["agentset.choregos.dev/change-agent", "3"],
    ]

    before = await lives(client, "change-agent")
    assert machine.kubectl("choregos", "rollout", "restart", "agentcluster/change").endswith("restarted\n")
    machine.kubectl("choregos", "rollout", "status", "agentcluster", "change")
    after = await lives(client, "change-agent")
    assert len(after) == 4
    assert before.isdisjoint(after)
    assert history(machine, "change-agent") == {"2": "version 2", "3": "version 1"}
    apply(machine, "change", entry, cause="version 1")  # what is declared is what was: nobody is replaced
    rollout(machine, "status", "agentcluster/change")
    assert await lives(client, "change-agent") == after
    await deleted(client, "change")
    wait_for(
        lambda: not machine.kubectl("get", "controllerrevisions", "-l", "choregos.dev/set=change-agent"),
        "the history goes with its set",
    )


async def test_a_set_by_itself_goes_back_and_forth(machine: UpProcess, client: Client):
    template = machine.template("agent", "Worker", settings={"version": "1"})
    template.pop("replicas")
    manifest = {"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "metadata": {"name": "solo"}}
    for version in ("1", "2"):
        template = {**template, "settings": {**template["settings"], "version": version}}
        spec = {"replicas": 2, "template": template}
        machine.kubectl("apply", "-f", "-", given=json.dumps({**manifest, "spec": spec}))
        rollout(machine, "status", "agentset/solo")
    for number, version in (("1", "1"), ("2", "2")):
        rollout(machine, "undo", "agentset/solo", "--to-revision", number)
        rollout(machine, "status", "agentset/solo")
        assert await versions(client, "solo") == [version] * 2
    assert list(history(machine, "solo")) == ["3", "4"]
    machine.kubectl("delete", "agentset", "solo", "--timeout=60s")


async def test_controllers_killed_in_the_middle_of_a_rollout_and_of_its_undoing(machine: UpProcess, client: Client):
    def template(version: str) -> Object:
        strategy = {"maxSurge": 1, "maxUnavailable": 0}
        return machine.template("agent", "NotFast", 6, settings={"version": version}, strategy=strategy)

    apply(machine, "killed", template("1"))
    rollout(machine, "status", "agentcluster/killed")

    async def half_way() -> bool:
        status = (await client.get("agentset", "killed-agent"))["status"]
        return 0 < status["updatedReplicas"] < 6

    async def kill_half_way() -> None:
        await until(half_way, "the rollout is under way")
        control = machine.only("control")
        control.kill()
        wait_for(lambda: not control.is_running(), "the controllers are gone")

    apply(machine, "killed", template("2"))
    await kill_half_way()
    rollout(machine, "status", "agentcluster/killed")
    assert await versions(client, "killed-agent") == ["2"] * 6
    assert list(history(machine, "killed-agent")) == ["1", "2"]

    rollout(machine, "undo", "agentset/killed-agent")
    await kill_half_way()
    rollout(machine, "status", "agentset/killed-agent")
    assert await versions(client, "killed-agent") == ["1"] * 6
    assert list(history(machine, "killed-agent")) == ["2", "3"]
    await deleted(client, "killed")


async def test_a_rollout_that_never_becomes_ready_fails_at_its_deadline_and_is_taken_back(
    machine: UpProcess, client: Client
):
    good = machine.template("agent", "Worker", 4, settings={"version": "1"}, progressDeadlineSeconds=3)
    apply(machine, "late", good)
    rollout(machine, "status", "agentcluster/late")
    apply(machine, "late", {**good, "runtime": {**good["runtime"], "python": "witness:NoSuchClass"}})
    failed = rollout(machine, "status", "agentcluster/late", code=1)
    assert 'agentset "late-agent" exceeded its progress deadline: no progress for 3 s' in failed.err
    assert "ImportFailed" in failed.err
    assert len(await ready_agents(client, "choregos.dev/set=late-agent")) >= 3
    await until_event(client, "ProgressDeadlineExceeded", about="late-agent")
    machine.kubectl(
        "wait", "agentset/late-agent", "--for=jsonpath={.status.conditions[1].reason}=ProgressDeadlineExceeded"
    )
    rollout(machine, "undo", "agentset/late-agent")
    rollout(machine, "status", "agentcluster/late")
    assert await versions(client, "late-agent") == ["1"] * 4
    await deleted(client, "late")


async def test_a_paused_set_keeps_its_template_and_goes_on_when_it_is_resumed(machine: UpProcess, client: Client):
    apply(machine, "paused", machine.template("agent", "Worker", 2, settings={"version": "1"}))
    rollout(machine, "status", "agentcluster/paused")
    rollout(machine, "pause", "agentcluster/paused")
    apply(machine, "paused", machine.template("agent", "Worker", 3, settings={"version": "2"}))
    machine.kubectl("wait", "agentset/paused-agent", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=60s")
    assert await versions(client, "paused-agent") == ["1"] * 3
    said = rollout(machine, "status", "agentset/paused-agent", "--watch=false").out
    assert said == 'Rollout of agentset "paused-agent" is paused: 0 of 3 agents updated...\n'
    rollout(machine, "resume", "agentset/paused-agent")
    rollout(machine, "status", "agentcluster/paused")
    assert await versions(client, "paused-agent") == ["2"] * 3
    await deleted(client, "paused")
