"""From a cluster to its sets, in both published shapes; and what an update of a set keeps."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from choregos.resources import meta
from choregos.resources.expansion import agent_sets, agent_type, updated_set
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.templates import digest
from choregos.resources.validation import validate


def cluster(text: str, **annotations: str) -> dict[str, Any]:
    metadata = {"name": "support", "namespace": "team", "annotations": annotations}
    obj = validate(AGENTCLUSTER, {"metadata": metadata, "spec": yaml.safe_load(text)}).object
    return meta.created(obj, "u1", 0)


def counts(text: str) -> dict[str, int]:
    return {entry["metadata"]["name"]: entry["spec"]["replicas"] for entry in agent_sets(cluster(text))}


ONE = "agents: [{name: nlp_agent, replicas: 10, labels: {tier: gold}, strategy: {maxSurge: 2}, resources: {cpu: 2}}]"


def test_a_template_becomes_a_set_of_its_cluster() -> None:
    (made,) = agent_sets(cluster(ONE))
    labels = {"choregos.dev/cluster": "support", "choregos.dev/template": "nlp_agent"}
    assert made["metadata"] == {
        "name": "support-nlp-agent",
        "namespace": "team",
        "labels": {**labels, "choregos.dev/region": "local"},
        "annotations": {"choregos.dev/declared-replicas": "10"},
        "ownerReferences": [
            {
                "apiVersion": "choregos.dev/v1",
                "kind": "AgentCluster",
                "name": "support",
                "uid": "u1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert made["spec"] == {
        "replicas": 10,
        "region": "local",
        "cluster": "support",
        "template": {
            "name": "nlp_agent",
            "labels": {"tier": "gold", **labels},
            "resources": {"cpu": "2", "memory": "16Mi", "gpu": "0"},
            "isolation": "shared",
            "startTimeoutSeconds": 60,
            "blockTimeoutSeconds": 10,
            "terminationGracePeriodSeconds": 30,
        },
        "strategy": {"maxSurge": 2, "maxUnavailable": "25%"},
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 10,
    }


def test_regions_and_types_become_sets_of_each_region() -> None:
    text = """
    regions:
    - {name: us-east, agent_distribution: {conversation_agents: 3000, knowledge_agents: 500}}
    - {name: eu_west, agent_distribution: {conversation_agents: 7}}
    resource_management: {conversation_agent: {cpu: 500m, memory: 1Gi}}
    """
    sets = agent_sets(cluster(text))
    assert [(each["metadata"]["name"], each["spec"]["region"], each["spec"]["replicas"]) for each in sets] == [
        ("support-conversation-agent-us-east", "us-east", 3000),
        ("support-knowledge-agent-us-east", "us-east", 500),
        ("support-conversation-agent-eu-west", "eu_west", 7),
    ]
    templates = [each["spec"]["template"] for each in sets]
    assert templates[0]["name"] == "conversation_agent"
    assert templates[0]["resources"] == {"cpu": "500m", "memory": "1Gi", "gpu": "0"}
    assert templates[1]["resources"]["cpu"] == "10m"
    assert templates[0] == templates[2]


def test_without_regions_the_total_is_shared_out_evenly() -> None:
    text = "{replicas: 11, resource_management: {a: {}, b: {}, c: {}}}"
    assert counts(text) == {"support-a": 4, "support-b": 4, "support-c": 3}


def test_no_templates_make_no_sets() -> None:
    assert agent_sets(cluster("agents: []")) == []


@pytest.mark.parametrize(
    ("plural", "type_name"),
    [
        ("conversation_agents", "conversation_agent"),
        ("policies", "policy"),
        ("classes", "class"),
        ("cases", "case"),
        ("sentiment_analysis", "sentiment_analysis"),
        ("boss", "boss"),
        ("agent", "agent"),
        ("s", "s"),
    ],
)
def test_a_plural_names_its_type(plural: str, type_name: str) -> None:
    assert agent_type(plural, {}) == type_name


def test_a_type_that_is_declared_is_found_before_any_rule() -> None:
    assert agent_type("sales", {"sales": {}}) == "sales"
    assert agent_type("boxes", {"box": {}}) == "box"
    assert agent_type("movies", {"movie": {}}) == "movie"


def test_a_code_path_stays_as_it_is() -> None:
    text = "agents: [{name: a, runtime: {python: 'm:C', path: ../code}}, {name: b, runtime: {python: 'm:C', path: /x}}]"
    sets = agent_sets(cluster(text))
    assert [each["spec"]["template"]["runtime"]["path"] for each in sets] == ["../code", "/x"]


def stored(text: str) -> dict[str, Any]:
    return meta.created(agent_sets(cluster(text))[0], "u2", 0)


def test_an_update_with_nothing_new_changes_nothing() -> None:
    assert updated_set(stored(ONE), agent_sets(cluster(ONE))[0]) == stored(ONE)


def test_a_scaled_set_keeps_its_count_until_the_manifest_changes_its_own() -> None:
    scaled = stored(ONE)
    scaled["spec"]["replicas"] = 3
    assert updated_set(scaled, agent_sets(cluster(ONE))[0])["spec"]["replicas"] == 3
    twelve = agent_sets(cluster(ONE.replace("10", "12")))[0]
    assert updated_set(scaled, twelve)["spec"]["replicas"] == 12


def test_an_update_keeps_what_others_wrote() -> None:
    existing = stored(ONE)
    existing["metadata"]["labels"]["team"] = "a"
    existing["metadata"]["annotations"]["note"] = "b"
    existing["status"]["replicas"] = 5
    updated = updated_set(existing, agent_sets(cluster(ONE.replace("cpu: 2", "cpu: 3")))[0])
    assert updated["metadata"] == existing["metadata"]
    assert updated["status"] == existing["status"]
    assert updated["spec"]["template"]["resources"]["cpu"] == "3"


def test_an_update_keeps_what_only_the_set_has() -> None:
    existing = stored(ONE)
    existing["spec"] |= {"paused": True, "restartedAt": "2026-11-22T18:59:07Z"}
    updated = updated_set(existing, agent_sets(cluster(ONE.replace("cpu: 2", "cpu: 3")))[0])
    assert (updated["spec"]["paused"], updated["spec"]["restartedAt"]) == (True, "2026-11-22T18:59:07Z")


def test_the_cause_of_a_change_goes_to_the_sets_that_it_changes() -> None:
    key = "kubernetes.io/change-cause"
    two = ONE[:-1] + ", {name: other}]"
    changed, other = agent_sets(cluster(two.replace("cpu: 2", "cpu: 3"), **{key: "more cpu"}))
    existing = agent_sets(cluster(two, **{key: "first"}))
    assert [each["metadata"]["annotations"][key] for each in existing] == ["first", "first"]
    assert updated_set(existing[0], changed)["metadata"]["annotations"][key] == "more cpu"
    assert updated_set(existing[1], other)["metadata"]["annotations"][key] == "first"
    changed, _ = agent_sets(cluster(two.replace("cpu: 2", "cpu: 4")))
    assert key not in updated_set(existing[0], changed)["metadata"]["annotations"]


def test_a_template_stored_before_a_default_was_known_is_not_replaced() -> None:
    old = stored(ONE)
    del old["spec"]["template"]["blockTimeoutSeconds"]
    updated = updated_set(old, agent_sets(cluster(ONE))[0])
    assert digest(updated["spec"]["template"]) == digest(old["spec"]["template"])


def test_a_set_that_became_invalid_is_put_right() -> None:
    broken = stored(ONE)
    broken["spec"]["template"] = {"name": 5}
    desired = agent_sets(cluster(ONE))[0]
    assert updated_set(broken, desired)["spec"] == desired["spec"]


def test_a_made_set_is_valid_as_it_is() -> None:
    made = agent_sets(cluster(ONE))[0]
    assert validate(AGENTSET, made).object == made
