from __future__ import annotations

import copy
from typing import Any

import pytest

from choregos.resources.registry import KINDS
from choregos.security import rbac
from choregos.security.default_roles import AUTO_UPDATE, BINDINGS, ROLES, aggregated, defaults, repaired
from choregos.security.rbac import Attributes


def complete() -> dict[str, Any]:
    """The default roles by name, with their rules."""
    found: dict[str, Any] = {}
    for resource, role in defaults():
        if resource == ROLES:
            found[role["metadata"]["name"]] = aggregated(role, found.values())
    return found


def allows(role: str, verb: str, resource: str, group: str = "choregos.dev") -> bool:
    resource, _, subresource = resource.partition("/")
    wanted = Attributes(verb, group=group, resource=resource, subresource=subresource)
    return any(rule.allows(wanted) for rule in rbac.rules(complete()[role]["rules"]))


@pytest.mark.parametrize(
    ("resource", "group", "verb", "roles"),
    [
        ("agentclusters", "choregos.dev", "list", "view edit admin"),
        ("agentclusters/status", "choregos.dev", "get", "view edit admin"),
        ("agentclusters", "choregos.dev", "create", "edit admin"),
        ("agentclusters/status", "choregos.dev", "patch", ""),
        ("agentsets/status", "choregos.dev", "patch", ""),
        ("agentsets/status", "choregos.dev", "update", ""),
        ("agentsets/scale", "choregos.dev", "update", "edit admin"),
        ("agents/log", "choregos.dev", "get", "view edit admin"),
        ("agents", "choregos.dev", "delete", "edit admin"),
        ("agentcalls", "choregos.dev", "create", "edit admin"),
        ("agentnodes", "choregos.dev", "list", ""),
        ("pods/log", "", "get", "view edit admin"),
        ("configmaps", "", "watch", "view edit admin"),
        ("resourcequotas", "", "get", "view edit admin"),
        ("resourcequotas/status", "", "get", "view edit admin"),
        ("resourcequotas", "", "create", ""),
        ("resourcequotas", "", "patch", ""),
        ("resourcequotas", "", "deletecollection", ""),
        ("secrets", "", "get", "edit admin"),
        ("secrets", "", "delete", "edit admin"),
        ("serviceaccounts/token", "", "create", "edit admin"),
        ("serviceaccounts", "", "impersonate", "edit admin"),
        ("namespaces", "", "get", "view edit admin"),
        ("namespaces", "", "delete", ""),
        ("roles", "rbac.authorization.k8s.io", "get", "admin"),
        ("rolebindings", "rbac.authorization.k8s.io", "create", "admin"),
        ("roles", "rbac.authorization.k8s.io", "escalate", ""),
        ("roles", "rbac.authorization.k8s.io", "bind", ""),
        ("clusterroles", "rbac.authorization.k8s.io", "list", ""),
        ("localsubjectaccessreviews", "authorization.k8s.io", "create", "admin"),
        ("users", "", "impersonate", ""),
    ],
)
def test_what_the_roles_for_people_allow(resource: str, group: str, verb: str, roles: str) -> None:
    allowing = [role for role in ("view", "edit", "admin", "cluster-admin") if allows(role, verb, resource, group)]
    assert allowing == [*roles.split(), "cluster-admin"]


def test_viewers_run_and_change_nothing() -> None:
    verbs = {verb for rule in complete()["view"]["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}
    running = {f"{kind.plural}/{each.name}" for kind in KINDS for each in kind.subresources if "create" in each.verbs}
    resources = {resource for rule in complete()["view"]["rules"] for resource in rule["resources"]}
    assert not running & resources


def test_a_default_that_is_right_is_left_alone() -> None:
    for _, wanted in defaults():
        assert repaired(wanted, wanted) is wanted


def test_what_is_missing_comes_back_and_what_was_added_stays() -> None:
    (wanted,) = (
        role for resource, role in defaults() if role["metadata"]["name"] == "system:basic-user" and resource == ROLES
    )
    changed = copy.deepcopy(wanted)
    added = {"verbs": ["get"], "apiGroups": [""], "resources": ["things"]}
    changed["rules"] = [added, changed["rules"][0]]
    changed["metadata"]["labels"] = {"mine": "yes"}
    right = repaired(changed, wanted)
    assert right["rules"][0] == added
    assert rbac.uncovered(rbac.rules(right["rules"]), rbac.rules(wanted["rules"])) == []
    assert right["metadata"]["labels"] == {"mine": "yes", **wanted["metadata"]["labels"]}
    assert repaired(right, wanted) is right
    left = {**changed, "metadata": {**changed["metadata"], "annotations": {AUTO_UPDATE: "false"}}}
    assert repaired(left, wanted) is left


def test_subjects_and_selectors_come_back_too() -> None:
    for resource, wanted in defaults():
        changed = copy.deepcopy(wanted)
        if resource == BINDINGS:
            other = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"}
            changed["subjects"] = [other]
            assert repaired(changed, wanted)["subjects"] == [other, *wanted["subjects"]]
        elif "aggregationRule" in wanted:
            del changed["aggregationRule"]
            assert repaired(changed, wanted)["aggregationRule"] == wanted["aggregationRule"]


def test_a_role_that_is_made_of_others_has_their_rules_once() -> None:
    def role(name: str, labels: dict[str, str], *verbs: str) -> dict[str, Any]:
        rules = [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]} for verb in verbs]
        return {"metadata": {"name": name, "labels": labels}, "rules": rules}

    both = {
        "metadata": {"name": "sum", "labels": {"part": "yes"}},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]},
    }
    parts = [
        role("b", {"part": "yes"}, "list", "get"),
        role("a", {"part": "yes"}, "get"),
        role("c", {}, "delete"),
        both,
    ]
    made = aggregated(both, parts)
    assert [rule["verbs"] for rule in made["rules"]] == [["get"], ["list"]]
    assert aggregated(made, parts) is made
    assert aggregated(made, []) == {**both, "rules": []}
    plain = role("a", {}, "get")
    assert aggregated(plain, parts) is plain
