"""A real kubectl, old and new, and quotas: made by its typed command, described, and told of when they refuse."""

from __future__ import annotations

import json

import pytest
import yaml
from api_world import Cluster, Kubectl
from api_world import cluster as fleet

pytestmark = pytest.mark.real

HARD = "agents=5,requests.cpu=1,requests.memory=1Gi,count/agentclusters.choregos.dev=2,configmaps=2"


def manifest(name: str, replicas: int) -> str:
    return yaml.safe_dump(fleet(name, spec={"agents": [{"name": "chat", "replicas": replicas}]}))


async def test_a_quota_is_made_shown_and_in_force(kubectl: Kubectl) -> None:
    assert await kubectl("create", "quota", "bound", f"--hard={HARD}") == "resourcequota/bound created\n"
    hard = json.loads(await kubectl("get", "quota", "bound", "-o", "jsonpath={.spec.hard}"))
    assert hard == dict(entry.split("=") for entry in HARD.split(","))
    await kubectl("apply", "-f", "-", stdin=manifest("one", 3))
    table = (await kubectl("get", "quota")).splitlines()
    assert table[0].split() == ["NAME", "REQUEST", "LIMIT", "AGE"]
    assert "agents: 3/5, configmaps: 0/2, count/agentclusters.choregos.dev: 1/2, requests.cpu: 30m/1" in table[1]
    for described in (await kubectl("describe", "quota", "bound"), await kubectl("describe", "namespace", "default")):
        rows = {tuple(line.split()) for line in described.splitlines()}
        assert {("agents", "3", "5"), ("requests.cpu", "30m", "1"), ("requests.memory", "48Mi", "1Gi")} <= rows


async def test_what_exceeds_is_refused_and_says_by_how_much(kubectl: Kubectl) -> None:
    await kubectl("create", "quota", "bound", "--hard=pods=5,configmaps=0")
    refused = await kubectl.run("apply", "-f", "-", stdin=manifest("big", 6))
    assert refused.code != 0
    assert 'agentclusters.choregos.dev "big" is forbidden' in refused.error
    assert "exceeded quota: bound, requested: pods=6, used: pods=0, limited: pods=5" in refused.error
    await kubectl("apply", "-f", "-", stdin=manifest("big", 5))
    for how in ((), ("--server-side",), ("--dry-run=server",)):
        refused = await kubectl.run("apply", *how, "-f", "-", stdin=manifest("big", 7))
        assert "requested: pods=2, used: pods=5, limited: pods=5" in refused.error, how
    refused = await kubectl.run("create", "configmap", "c")
    assert 'configmaps "c" is forbidden: exceeded quota: bound, requested: configmaps=1' in refused.error


async def test_a_quota_that_means_nothing_here_says_what_would(kubectl: Kubectl) -> None:
    refused = await kubectl.run("create", "quota", "bound", "--hard=services=3")
    assert "spec.hard.services: is nothing that can be limited; what can be: agents, pods" in refused.error
    refused = await kubectl.run("create", "quota", "bound", "--hard=pods=3", "--scopes=BestEffort")
    assert "spec.scopes: is not supported" in refused.error
    explained = await kubectl("explain", "quota.spec.hard")
    assert "count/<resource>" in explained


async def test_who_works_in_a_namespace_reads_its_quotas_only(cluster: Cluster, kubectl: Kubectl) -> None:
    await kubectl("create", "quota", "bound", "--hard=agents=3")
    await kubectl("create", "rolebinding", "home", "--clusterrole=admin", "--user=ada")
    ada = cluster.user("ada", "people")
    assert "bound" in await ada("get", "quota")
    for arguments in (
        ("create", "quota", "mine", "--hard=agents=100"),
        ("patch", "quota", "bound", "--type=merge", '-p={"spec":{"hard":{"agents":"9"}}}'),
        ("delete", "quota", "bound"),
    ):
        assert "orbidden" in (await ada.run(*arguments)).error, arguments
    refused = await ada.run("apply", "-f", "-", stdin=manifest("big", 4))
    assert "exceeded quota: bound" in refused.error
