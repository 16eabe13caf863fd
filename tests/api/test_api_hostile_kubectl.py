"""What a real kubectl says of wrong and of odd manifests, and of their schema."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.real

FAULTY = """
apiVersion: choregos.dev/v1
kind: AgentCluster
metadata: {name: bad, labels: {"a b": c}}
spec:
  orchestrator: {type: flat}
  auto_scaling: {min_replicas: 3, max_replicas: 2, target_utilization: 700%}
  agents:
  - name: a_b
    replicas: -1
    resources: {cpu: two, memory: 64m}
    env: {A: 5}
    labels: {choregos.dev/set: x}
  - name: a-b
    runtime: {python: nowhere}
    strategy: {maxSurge: 0, maxUnavailable: 0%}
    placement: {tolerations: [{operator: Equal}]}
"""
FAULTS = (
    "metadata.labels[a b]: 'a b' must be letters, digits",
    "spec.orchestrator.type: expected 'hierarchical', found 'flat'",
    "spec.auto_scaling.min_replicas: 3 is more than max_replicas, 2",
    "spec.auto_scaling.target_utilization: expected a percentage from 0% to 100%, found '700%'",
    "spec.agents[0].replicas: should be greater than or equal to 0, found -1",
    "spec.agents[0].resources.cpu: expected a quantity, such as 500m or 4Gi, found 'two'",
    "spec.agents[0].resources.memory: '64m' is a fraction of a byte",
    "spec.agents[0].env.A: expected text; quote it, found 5",
    "spec.agents[0].labels: labels that begin with choregos.dev/ are reserved, found choregos.dev/set",
    "spec.agents[1].name: makes the AgentSet name 'bad-a-b', as spec.agents[0].name does",
    "spec.agents[1].runtime.python: expected a class as module:Class, such as",
    "spec.agents[1].strategy.maxUnavailable: may not be 0 while maxSurge is 0",
    "spec.agents[1].placement.tolerations[0].operator: must be Exists when there is no key",
)


@pytest.mark.parametrize(
    "command", [("apply",), ("apply", "--validate=warn"), ("create", "--validate=ignore"), ("apply", "--server-side")]
)
async def test_every_fault_of_a_manifest_is_shown_at_once(kubectl: Any, command: tuple[str, ...]) -> None:
    refused = await kubectl.run(*command, "--dry-run=server", "-f", "-", stdin=FAULTY)
    assert refused.code == 1
    assert refused.error.startswith('The AgentCluster "bad" is invalid:')
    assert [fault for fault in FAULTS if fault not in refused.error] == []
    assert refused.error.count("\n* ") == len(FAULTS)


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ('{"op":"test","path":"/data/a","value":"2"}', "testing path /data/a failed"),
        ('{"op":"remove","path":"/data/b"}', "the path /data/b does not exist"),
    ],
)
async def test_why_a_json_patch_does_not_fit_is_shown(kubectl: Any, operation: str, why: str) -> None:
    await kubectl("create", "configmap", "m1", "--from-literal=a=1")
    patch = f'[{{"op":"test","path":"/data/a","value":"1"}},{operation}]'
    refused = await kubectl.run("patch", "configmap", "m1", "--type", "json", "-p", patch)
    assert (refused.code, refused.error) == (1, f'The ConfigMap "m1" is invalid: patch[1]: {why}\n')


ODD = """
apiVersion: choregos.dev/v1
kind: AgentCluster
metadata: {name: odd}
spec: {foo: 1, agents: [{name: a, resources: {memory: 64, cpus: 1}}]}
"""
UNKNOWN = ("spec.agents[0].resources.cpus", "spec.foo")
SMALL = "Warning: spec.agents[0].resources.memory: 64 is 64 bytes, less than 1Mi; was a unit such as Mi or Gi left out?"


async def test_an_unknown_field_is_refused_told_or_passed_over(kubectl: Any) -> None:
    strict = await kubectl.run("apply", "--dry-run=server", "-f", "-", stdin=ODD)
    assert strict.code == 1
    told = [f'unknown field "{path}"' for path in UNKNOWN]
    assert f"strict decoding error: {', '.join(told)}" in strict.error
    warned = await kubectl.run("apply", "--validate=warn", "--dry-run=server", "-f", "-", stdin=ODD)
    assert warned.code == 0
    assert warned.error.splitlines() == [*(f"Warning: {text}" for text in told), SMALL]
    ignored = await kubectl.run("apply", "--validate=ignore", "--dry-run=server", "-f", "-", stdin=ODD)
    assert (ignored.code, ignored.error.splitlines()) == (0, [SMALL])


PUBLISHED = """
apiVersion: {version}
kind: AgentCluster
metadata: {{name: platform}}
spec:
  orchestrator:
    type: hierarchical
    levels:
    - {{name: fleet_orchestrator, scope: global, responsibilities: [resource_allocation]}}
    - {{name: agent_supervisor, scope: agent-group, responsibilities: [health_monitoring]}}
  agents:
  - {{name: nlp_agent, replicas: 10, resources: {{cpu: 2, memory: 4Gi, gpu: 1}}, capabilities: [sentiment_analysis]}}
---
apiVersion: {version}
kind: AgentCluster
metadata: {{name: service}}
spec:
  replicas: 3600
  regions:
  - {{name: us-east, agent_distribution: {{conversation_agents: 3000, knowledge_agents: 500, escalation_agents: 100}}}}
  auto_scaling:
    {{enabled: true, min_replicas: 5000, max_replicas: 15000, target_utilization: 70%,
     scale_up_threshold: 80%, scale_down_threshold: 50%}}
  resource_management:
    conversation_agent: {{cpu: 500m, memory: 1Gi, gpu: 0}}
    knowledge_agent: {{cpu: 1, memory: 2Gi}}
"""


@pytest.mark.parametrize("version", ["v1", "choregos.dev/v1"])
@pytest.mark.parametrize("server_side", [(), ("--server-side",)])
async def test_the_published_shapes_are_applied_as_they_are(
    kubectl: Any, version: str, server_side: tuple[str, ...]
) -> None:
    applied = await kubectl.run("apply", *server_side, "-f", "-", stdin=PUBLISHED.format(version=version))
    assert applied.code == 0, applied.error
    assert applied.error.splitlines() == [
        "Warning: spec.orchestrator: stored as a description; "
        "control has the levels fleet, region and node in any case",
        "Warning: spec.auto_scaling: stored; nothing scales by it in this version",
    ]
    shown = await kubectl("get", "agentcluster", "service", "-o", "jsonpath={.spec.auto_scaling.max_replicas}")
    assert shown == "15000"


async def test_explain_says_units_defaults_and_what_has_no_effect(kubectl: Any) -> None:
    fields = await kubectl("explain", "agentclusters.spec", "--recursive")
    for line in (
        "cpu\t<Quantity>",
        "maxSurge\t<IntOrString>",
        "python\t<string> -required-",
        "enum: shared, dedicated",
    ):
        assert line in fields
    assert "Seconds `on_start` may take. Default 60." in await kubectl("explain", "agentsets.spec.template")
    needs = " ".join((await kubectl("explain", "agentclusters.spec.agents.resources")).split())
    assert "Processor cores. `500m` is half a core" in needs
    assert "the default is `10m`" in needs
    scaling = " ".join((await kubectl("explain", "agentclusters.spec.auto_scaling")).split())
    assert "nothing scales by it in this version" in scaling
    assert "is asked regularly" in " ".join((await kubectl("explain", "as.spec.template.probes.liveness")).split())


COLUMNS = {
    "agentclusters": "NAME READY AGENTS SETS STATUS AGE REGIONS MESSAGE",
    "agentsets": "NAME DESIRED READY UP-TO-DATE AVAILABLE PENDING STATUS REGION AGE CAPABILITIES SELECTOR MESSAGE",
    "agents": "NAME READY STATUS RESTARTS NODE AGE HOST SET CAPABILITIES TEMPLATE MESSAGE",
    "agentnodes": "NAME STATUS AGENTS CPU MEMORY GPU REGION AGE VERSION HOST-NAME",
    "pods": "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES",
    "nodes": "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
    "namespaces": "NAME STATUS AGE",
}


async def test_wide_columns(kubectl: Any, world: Any, manifests: Any) -> None:
    await world.start_agents(1)
    await world.client.post("/apis/choregos.dev/v1/agentnodes", manifests.node("n1"))
    await kubectl("apply", "-f", "-", stdin=PUBLISHED.format(version="v1"))
    await kubectl(
        "apply",
        "-f",
        "-",
        stdin="""{"apiVersion": "choregos.dev/v1", "kind": "AgentSet",
        "metadata": {"name": "s"}, "spec": {"template": {"name": "t"}}}""",
    )
    for plural, columns in COLUMNS.items():
        heading = (await kubectl("get", plural, "-o", "wide")).splitlines()[0]
        assert " ".join(heading.split()) == columns, plural
