"""Validation: every fault with its path, defaults, pruning, and that the normal form is final."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from choregos.foundation.errors import Invalid
from choregos.resources.expansion import agent_sets
from choregos.resources.kind import Kind
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.kinds.namespace import NAMESPACE
from choregos.resources.registry import KINDS
from choregos.resources.validation import dotted, validate

FIRST_SHAPE = """
apiVersion: v1
kind: AgentCluster
metadata: {name: multi-agent-platform}
spec:
  orchestrator:
    type: hierarchical
    levels:
    - {name: fleet_orchestrator, scope: global, responsibilities: [resource_allocation, load_balancing]}
    - {name: node_manager, scope: node, responsibilities: [agent_lifecycle]}
    - {name: agent_supervisor, scope: agent-group, responsibilities: [health_monitoring]}
  agents:
  - name: nlp_agent
    replicas: 10
    resources: {cpu: 2, memory: 4Gi, gpu: 1}
    capabilities: [natural_language_processing, sentiment_analysis]
"""

SECOND_SHAPE = """
apiVersion: v1
kind: AgentCluster
metadata: {name: customer-service}
spec:
  replicas: 3600
  regions:
  - name: us-east
    agent_distribution: {conversation_agents: 3000, knowledge_agents: 500, escalation_agents: 100}
  auto_scaling: {enabled: false, min_replicas: 5000, max_replicas: 15000, target_utilization: 70%,
                 scale_up_threshold: 80%, scale_down_threshold: 50%}
  resource_management:
    conversation_agent: {cpu: 500m, memory: 1Gi, gpu: 0}
    knowledge_agent: {cpu: 1, memory: 2Gi}
"""

COMPLETE_TEMPLATE = """
name: conversation
labels: {tier: gold}
resources: {cpu: 100m, memory: 64Mi, gpu: 0}
capabilities: [natural_language_processing, conversation]
runtime: {python: "support_agents.conversation:Conversation", path: /srv/agents}
isolation: dedicated
env: {KEY: value}
settings: {model: {name: small, stop: null}, list: [1, null, 2.5]}
probes:
  liveness: {method: healthy, periodSeconds: 10, timeoutSeconds: 0.5, failureThreshold: 3, initialDelaySeconds: 0}
  readiness: {method: warm}
startTimeoutSeconds: 60
blockTimeoutSeconds: 2.5
terminationGracePeriodSeconds: 0
placement:
  nodeSelector: {disk: fast}
  tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}, {key: a, value: b}]
"""


def cluster(*agents: Any, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "c"}, "spec": {"agents": list(agents), **spec}}


def faults(kind: Kind, obj: Any, **options: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        validate(kind, obj, **options)
    return {cause.path: cause.message for cause in caught.value.causes}


DESCRIBED = "spec.orchestrator: stored as a description; control has the levels fleet, region and node in any case"
STORED = "spec.auto_scaling: stored; nothing scales by it in this version"


@pytest.mark.parametrize("version", ["v1", "choregos.dev/v1"])
@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (FIRST_SHAPE, (DESCRIBED,)),
        (SECOND_SHAPE, ()),
        (SECOND_SHAPE.replace("enabled: false", "enabled: true"), (STORED,)),
    ],
)
def test_the_published_shapes_are_accepted_and_what_has_no_effect_is_told(
    text: str, warnings: tuple[str, ...], version: str
) -> None:
    manifest = {**yaml.safe_load(text), "apiVersion": version}
    before = copy.deepcopy(manifest)
    valid = validate(AGENTCLUSTER, manifest)
    assert valid.unknown_fields == ()
    assert valid.warnings == warnings
    assert valid.object["apiVersion"] == "choregos.dev/v1"
    assert manifest == before


def test_the_published_shapes_mean_what_they_say() -> None:
    first, second = (validate(AGENTCLUSTER, yaml.safe_load(text)).object for text in (FIRST_SHAPE, SECOND_SHAPE))
    for cluster_object in (first, second):
        cluster_object["metadata"]["uid"] = "u"
    (nlp,) = agent_sets(first)
    assert (nlp["metadata"]["name"], nlp["spec"]["replicas"]) == ("multi-agent-platform-nlp-agent", 10)
    assert nlp["spec"]["template"]["resources"] == {"cpu": "2", "memory": "4Gi", "gpu": "1"}
    assert nlp["spec"]["template"]["capabilities"] == ["natural_language_processing", "sentiment_analysis"]
    found = {each["metadata"]["name"]: each["spec"] for each in agent_sets(second)}
    assert {name: spec["replicas"] for name, spec in found.items()} == {
        "customer-service-conversation-agent-us-east": 3000,
        "customer-service-knowledge-agent-us-east": 500,
        "customer-service-escalation-agent-us-east": 100,
    }
    assert {spec["region"] for spec in found.values()} == {"us-east"}
    needs = found["customer-service-conversation-agent-us-east"]["template"]["resources"]
    assert needs == {"cpu": "500m", "memory": "1Gi", "gpu": "0"}


def test_a_complete_template_is_accepted_and_kept() -> None:
    template = yaml.safe_load(COMPLETE_TEMPLATE)
    valid = validate(AGENTCLUSTER, cluster({**template, "replicas": 3, "strategy": {"maxSurge": 1}}))
    stored = valid.object["spec"]["agents"][0]
    assert stored["settings"] == template["settings"]
    assert stored["strategy"] == {"maxSurge": 1}
    assert stored["probes"]["liveness"]["timeoutSeconds"] == 0.5
    assert stored["terminationGracePeriodSeconds"] == 0


def test_defaults_are_filled_and_quantities_canonical() -> None:
    template = {"name": "a", "resources": {"cpu": 1.5, "memory": "1024Mi"}}
    valid = validate(AGENTSET, {"metadata": {"name": "s"}, "spec": {"template": template}})
    assert valid.object["spec"]["template"] == {
        "name": "a",
        "resources": {"cpu": "1500m", "memory": "1Gi", "gpu": "0"},
        "isolation": "shared",
        "startTimeoutSeconds": 60,
        "blockTimeoutSeconds": 10,
        "terminationGracePeriodSeconds": 30,
    }
    assert valid.object["spec"]["strategy"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert valid.object["status"]["readyReplicas"] == 0


def test_entries_of_a_clusters_lists_are_stored_as_they_are_written() -> None:
    agents = [
        {"name": "a", "resources": {"cpu": 1.5}, "labels": None},
        {"name": "b", "probes": {"liveness": {"method": "m"}}},
    ]
    levels = [{"name": "fleet", "scope": "global"}]
    regions = [{"name": "us"}]
    written = cluster(*agents, orchestrator={"type": "hierarchical", "levels": levels})
    found = validate(AGENTCLUSTER, written).object
    assert found["spec"]["agents"] == [{"name": "a", "resources": {"cpu": "1500m"}}, agents[1]]
    assert found["spec"]["orchestrator"]["levels"] == levels
    assert found["status"]["readyAgents"] == 0
    second = {"metadata": {"name": "c"}, "spec": {"regions": regions, "resource_management": {"a": {"cpu": "1"}}}}
    spec = validate(AGENTCLUSTER, second).object["spec"]
    assert spec["regions"] == regions
    assert spec["resource_management"] == {"a": {"cpu": "1", "memory": "16Mi", "gpu": "0"}}


FAULTY = """
apiVersion: v2
kind: AgentCluster
metadata: {name: Multi_agent, labels: {a b: c}}
spec:
  orchestrator: {type: flat}
  regions: {}
  agents:
  - name: a_b
    replicas: -1
    resources: {cpu: two, memory: 64m, gpu: -1}
    capabilities: [a b, x, x]
    env: {A: 5}
    labels: {choregos.dev/set: x}
  - name: a-b
    replicas: true
    isolation: alone
    runtime: {process: x}
    strategy: {maxSurge: 0, maxUnavailable: 0%}
    probes: {liveness: {method: x y, periodSeconds: 0}}
    placement: {tolerations: [{operator: Equal}, {operator: Exists, value: x}]}
  - {resources: 5}
  - 7
"""


def test_every_fault_is_told_at_once_with_its_path() -> None:
    found = faults(AGENTCLUSTER, yaml.safe_load(FAULTY))
    assert set(found) == {
        "apiVersion",
        "metadata.labels[a b]",
        "metadata.name",
        "spec.agents[0].capabilities[0]",
        "spec.agents[0].capabilities[2]",
        "spec.agents[0].env.A",
        "spec.agents[0].labels",
        "spec.agents[0].replicas",
        "spec.agents[0].resources.cpu",
        "spec.agents[0].resources.gpu",
        "spec.agents[0].resources.memory",
        "spec.agents[1].isolation",
        "spec.agents[1].name",
        "spec.agents[1].placement.tolerations[0].operator",
        "spec.agents[1].placement.tolerations[1].value",
        "spec.agents[1].probes.liveness.method",
        "spec.agents[1].probes.liveness.periodSeconds",
        "spec.agents[1].replicas",
        "spec.agents[1].runtime.process",
        "spec.agents[1].runtime.python",
        "spec.agents[1].strategy.maxUnavailable",
        "spec.agents[2].name",
        "spec.agents[2].resources",
        "spec.agents[3]",
        "spec.orchestrator.type",
        "spec.regions",
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("spec.agents[0].env.A", "expected text; quote it, found 5"),
        ("spec.agents[0].replicas", "should be greater than or equal to 0, found -1"),
        ("spec.agents[0].resources.memory", "'64m' is a fraction of a byte; m is a thousandth, M and Mi are millions"),
        ("spec.agents[0].labels", "labels that begin with choregos.dev/ are reserved, found choregos.dev/set"),
        ("spec.agents[1].placement.tolerations[0].operator", "must be Exists when there is no key"),
        ("spec.agents[1].strategy.maxUnavailable", "may not be 0 while maxSurge is 0"),
        ("spec.agents[1].probes.liveness.method", "expected the name of a method, such as reply, found 'x y'"),
        ("spec.agents[1].runtime.process", "unknown field"),
        ("spec.agents[1].runtime.python", "is required"),
        ("spec.agents[1].isolation", "expected 'shared' or 'dedicated', found 'alone'"),
        ("spec.agents[1].replicas", "expected a whole number, found true"),
        ("spec.agents[1].name", "makes the AgentSet name 'multi-agent-a-b', as spec.agents[0].name does"),
        ("spec.agents[3]", "expected an object, found 7"),
    ],
)
def test_a_fault_says_what_was_expected_and_found(path: str, message: str) -> None:
    assert faults(AGENTCLUSTER, yaml.safe_load(FAULTY))[path] == message


def spec_faults(**spec: Any) -> dict[str, str]:
    return faults(AGENTCLUSTER, {"metadata": {"name": "c"}, "spec": spec})


def test_the_two_shapes_may_not_be_mixed() -> None:
    found = spec_faults(agents=[], regions=[], resource_management={})
    assert set(found) == {"spec.regions", "spec.resource_management"}


@pytest.mark.parametrize("spec", [{}, {"replicas": 3}, {"resource_management": {"a": {}}}, {"orchestrator": None}])
def test_a_cluster_must_say_which_agents_there_shall_be(spec: dict[str, Any]) -> None:
    assert "says nothing about which agents" in spec_faults(**spec)["spec"]


def test_types_and_regions_may_not_be_given_twice() -> None:
    found = spec_faults(
        regions=[
            {"name": "us", "agent_distribution": {"agent": 1, "agents": 2}},
            {"name": "us", "agent_distribution": {}},
        ]
    )
    assert found == {
        "spec.regions[0].agent_distribution.agents": "counts 'agent', as 'agent' does",
        "spec.regions[1].name": "'us' is listed twice",
    }


def test_sets_of_one_name_are_refused_however_the_name_comes_about() -> None:
    regions = [
        {"name": "east", "agent_distribution": {"a-us": 1}},
        {"name": "us-east", "agent_distribution": {"a": 1}},
    ]
    found = spec_faults(regions=regions)
    assert "as spec.regions[0].agent_distribution.a-us does" in found["spec.regions[1].agent_distribution.a"]


def test_a_name_must_leave_room_for_the_agents_number() -> None:
    manifest = cluster({"name": "a" * 26})
    manifest["metadata"]["name"] = "c" * 28
    assert validate(AGENTCLUSTER, manifest)
    manifest["metadata"]["name"] = "c" * 29
    assert "at most 55" in faults(AGENTCLUSTER, manifest)["spec.agents[0].name"]


def test_scaling_limits_must_be_in_order() -> None:
    scaling = {"min_replicas": 3, "max_replicas": 2, "scale_up_threshold": "50%", "scale_down_threshold": "50%"}
    found = spec_faults(agents=[], auto_scaling=scaling)
    assert found == {
        "spec.auto_scaling.min_replicas": "3 is more than max_replicas, 2",
        "spec.auto_scaling.scale_down_threshold": "50% is not below scale_up_threshold, 50%",
    }


@pytest.mark.parametrize(
    ("manifest", "warning"),
    [
        (cluster(replicas=3), "spec.replicas: 3, but the templates add up to 0"),
        (cluster(auto_scaling={"enabled": True}), "spec.auto_scaling: stored"),
        (cluster({"name": "a", "resources": {"memory": 64}}), "spec.agents[0].resources.memory: 64 is 64 bytes"),
        (
            {"metadata": {"name": "c"}, "spec": {"regions": [], "resource_management": {"a": {}}}},
            "spec.resource_management.a: no region",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(manifest: dict[str, Any], warning: str) -> None:
    (found,) = validate(AGENTCLUSTER, manifest).warnings
    assert found.startswith(warning)


def test_a_relative_path_is_fine() -> None:
    assert validate(AGENTCLUSTER, cluster({"name": "a", "runtime": {"python": "m:C", "path": "."}})).warnings == ()


def test_unknown_fields_are_reported_and_pruned() -> None:
    manifest = cluster({"name": "a", "resourcs": {}, "resources": {"cpus": 1}}, foo=1)
    manifest["metadata"]["clusterName"] = "x"
    before = copy.deepcopy(manifest)
    valid = validate(AGENTCLUSTER, manifest)
    assert sorted(valid.unknown_fields) == [
        "metadata.clusterName",
        "spec.agents[0].resources.cpus",
        "spec.agents[0].resourcs",
        "spec.foo",
    ]
    assert validate(AGENTCLUSTER, valid.object).unknown_fields == ()
    assert manifest == before


@pytest.mark.parametrize(("kind", "rest"), [(AGENTCLUSTER, {"spec": {"agents": []}}), (NAMESPACE, {})])
def test_annotations_have_a_size_together_counted_in_bytes(kind: Kind, rest: dict[str, Any]) -> None:
    def annotated(**annotations: str) -> dict[str, Any]:
        return {"metadata": {"name": "a", "annotations": annotations}, **rest}

    fits = {"one": "x" * 131_000, "two": "ä" * ((262_144 - 131_000 - 6) // 2)}
    validate(kind, annotated(**fits))
    with pytest.raises(Invalid) as refused:
        validate(kind, annotated(**fits, k=""))
    (cause,) = refused.value.causes
    assert (cause.path, cause.message) == ("metadata.annotations", "Too long: may not be more than 262144 bytes")


def test_null_is_the_same_as_absent() -> None:
    manifest = cluster({"name": "a", "runtime": None, "isolation": None, "unknown": None}, regions=None)
    manifest["metadata"]["creationTimestamp"] = None
    manifest["status"] = None
    assert validate(AGENTCLUSTER, manifest) == validate(AGENTCLUSTER, cluster({"name": "a"}))


@pytest.mark.parametrize("obj", [None, [], "text", 5])
def test_what_is_no_object_is_refused(obj: Any) -> None:
    with pytest.raises(Invalid, match="must be an object"):
        validate(AGENTCLUSTER, obj)


def test_a_key_that_is_no_text_is_refused() -> None:
    manifest = {"metadata": {"name": "c", "labels": {5: "x"}}, "spec": {"agents": [], 7: 1}}
    assert faults(AGENTCLUSTER, manifest) == {
        "metadata.labels[5]": "expected text; quote it, found 5",
        "spec[7]": "expected text as a key; quote it, found 7",
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_an_empty_object_is_refused_without_failing(kind: Kind) -> None:
    if kind.kind == "SelfSubjectReview":  # asks nothing but who asks
        assert validate(kind, {}).object["kind"] == kind.kind
    else:
        assert faults(kind, {})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "AgentCluster": ["agents", "regions", "replicas", "resource_management", "auto_scaling", "orchestrator"],
    "AgentSet": ["replicas", "region", "template", "strategy"],
    "AgentCall": ["agent", "capability", "selector", "method", "arguments", "timeoutSeconds"],
    "AgentNode": ["region", "unschedulable", "taints"],
}


@given(st.data())
def test_no_input_makes_validation_fail_in_another_way(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    entry = st.fixed_dictionaries({}, optional=dict.fromkeys(["name", "replicas", "capabilities", "labels"], ANYTHING))
    value = ANYTHING | st.lists(entry, max_size=3)
    spec = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS.get(kind.kind, ["x"]), value))
    metadata = st.fixed_dictionaries({}, optional=dict.fromkeys(["name", "labels", "finalizers"], ANYTHING))
    obj = data.draw(st.fixed_dictionaries({}, optional={"metadata": metadata | ANYTHING, "spec": spec | ANYTHING}))
    with contextlib.suppress(Invalid):
        valid = validate(kind, obj)
        assert validate(kind, valid.object).object == valid.object


AMOUNTS = st.sampled_from([0, 1, 2.5, "100m", "1024Mi", "1.5Gi", "3k", "1e3"])
AGENTS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z]{1,8}", fullmatch=True)},
    optional={
        "replicas": st.integers(0, 10**6),
        "resources": st.fixed_dictionaries({}, optional=dict.fromkeys(["cpu", "gpu"], AMOUNTS)),
        "capabilities": st.lists(st.from_regex(r"[a-z_]{1,8}[a-z]", fullmatch=True), unique=True, max_size=3),
        "settings": st.dictionaries(
            st.text(max_size=4), st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=4), max_size=3
        ),
        "startTimeoutSeconds": st.sampled_from([1, 2.0, 2.5]),
        "strategy": st.fixed_dictionaries({}, optional={"maxSurge": st.sampled_from([1, "10%"])}),
    },
)


@given(st.lists(AGENTS, max_size=4, unique_by=lambda agent: agent["name"]))
def test_the_normal_form_is_final(agents: list[dict[str, Any]]) -> None:
    agents = [agent for agent in agents if not any(w.startswith("_") for w in agent.get("capabilities", ()))]
    valid = validate(AGENTCLUSTER, cluster(*agents))
    again = validate(AGENTCLUSTER, valid.object)
    assert again.object == valid.object
    for agent, stored in zip(agents, valid.object["spec"]["agents"], strict=True):
        assert stored.get("settings") == agent.get("settings")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (("spec", "agents", 2, "resources", "cpu"), "spec.agents[2].resources.cpu"),
        (("metadata", "labels", "choregos.dev/set"), "metadata.labels[choregos.dev/set]"),
        (("metadata", "labels", "a b", "[key]"), "metadata.labels[a b]"),
        ((), ""),
    ],
)
def test_paths_are_written_as_kubernetes_does(location: tuple[int | str, ...], path: str) -> None:
    assert dotted(location) == path


@pytest.mark.parametrize(("templates", "left_out"), [(250, 0), (300, 200)])
def test_every_fault_is_told_and_of_a_flood_the_rest_is_counted(templates: int, left_out: int) -> None:
    faulty = [
        {"name": f"a{n}", "isolation": "none", "replicas": -n - 1, "resources": {"cpu": "much"}, "bogus": 1}
        for n in range(templates)
    ]
    with pytest.raises(Invalid) as caught:
        validate(AGENTCLUSTER, cluster(*faulty))
    *causes, last = caught.value.causes
    unknown = [cause for cause in causes if cause.message == "unknown field"]
    assert [cause.path for cause in unknown] == [f"spec.agents[{n}].bogus" for n in range(templates)]
    if left_out:
        assert (len(causes), str(last)) == (1000, f"…: and {left_out} more faults")
    else:
        assert len({*causes, last}) == 4 * templates
