from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.security import rbac
from choregos.security.rbac import Attributes, Rule, User


def rule(verbs: str, groups: str = "-", resources: str = "", names: str = "", paths: str = "") -> Rule:
    """`-` is the core group."""

    def words(text: str) -> list[str]:
        return ["" if word == "-" else word for word in text.split()]

    document: dict[str, Any] = {"verbs": words(verbs)}
    if resources:
        document |= {"apiGroups": words(groups), "resources": words(resources)}
    document |= {"resourceNames": words(names)} if names else {}
    document |= {"nonResourceURLs": words(paths)} if paths else {}
    return rbac.rules([document])[0]


def wanted(verb: str, resource: str, group: str = "", name: str = "") -> Attributes:
    resource, _, subresource = resource.partition("/")
    return Attributes(verb, group=group, resource=resource, subresource=subresource, name=name)


@pytest.mark.parametrize(
    ("granted", "asked", "allowed"),
    [
        (rule("get", "-", "pods"), wanted("get", "pods"), True),
        (rule("get list", "-", "pods"), wanted("watch", "pods"), False),
        (rule("*", "-", "pods"), wanted("anything", "pods"), True),
        (rule("get", "-", "pods"), wanted("get", "pods", "apps"), False),
        (rule("get", "*", "pods"), wanted("get", "pods", "apps"), True),
        (rule("get", "-", "*"), wanted("get", "pods"), True),
        # `*` takes in subresources, a resource's own name does not.
        (rule("get", "-", "*"), wanted("get", "pods/log"), True),
        (rule("get", "-", "pods"), wanted("get", "pods/log"), False),
        (rule("get", "-", "pods/log"), wanted("get", "pods"), False),
        (rule("get", "-", "pods/log"), wanted("get", "pods/log"), True),
        (rule("get", "-", "*/scale"), wanted("get", "agentsets/scale"), True),
        (rule("get", "-", "*/scale"), wanted("get", "agentsets"), False),
        (rule("get", "-", "*/scale"), wanted("get", "agentsets/status"), False),
        (rule("get", "-", "pods/*"), wanted("get", "pods/log"), False),
        # Names: what has no name yet, or is a collection, is not among them.
        (rule("get", "-", "secrets", "a b"), wanted("get", "secrets", name="b"), True),
        (rule("get", "-", "secrets", "a b"), wanted("get", "secrets", name="c"), False),
        (rule("create", "-", "secrets", "a"), wanted("create", "secrets"), False),
        (rule("list", "-", "secrets", "a"), wanted("list", "secrets"), False),
        # Paths are for what is no resource, and resources are no paths.
        (rule("get", paths="/healthz /api/*"), Attributes("get", "/healthz"), True),
        (rule("get", paths="/healthz /api/*"), Attributes("get", "/healthz/x"), False),
        (rule("get", paths="/healthz /api/*"), Attributes("get", "/api/v1"), True),
        (rule("get", paths="/healthz /api/*"), Attributes("get", "/api"), False),
        (rule("get", paths="*"), Attributes("get", "/anything"), True),
        (rule("get", paths="*"), Attributes("post", "/anything"), False),
        (rule("*", "*", "*"), Attributes("get", "/healthz"), False),
        (rule("*", paths="*"), wanted("get", "pods"), False),
    ],
)
def test_a_rule_allows_what_kubernetes_says(granted: Rule, asked: Attributes, allowed: bool) -> None:
    assert granted.allows(asked) is allowed


@pytest.mark.parametrize(
    ("held", "asked", "covered"),
    [
        ([rule("*", "*", "*")], [rule("get", "-", "pods"), rule("*", "*", "*")], True),
        ([rule("get list", "-", "pods secrets")], [rule("list", "-", "pods")], True),
        ([rule("get", "-", "pods")], [rule("get list", "-", "pods")], False),
        # From several rules together.
        ([rule("get", "-", "pods"), rule("list", "-", "pods")], [rule("get list", "-", "pods")], True),
        ([rule("get", "-", "pods"), rule("list", "-", "secrets")], [rule("get list", "-", "pods secrets")], False),
        ([rule("get", "-", "pods"), rule("get", "apps", "pods")], [rule("get", "- apps", "pods")], True),
        # A star is covered by a star only.
        ([rule("get list watch", "-", "pods")], [rule("*", "-", "pods")], False),
        ([rule("get", "-", "pods")], [rule("get", "*", "pods")], False),
        ([rule("get", "-", "pods")], [rule("get", "-", "*")], False),
        ([rule("get", "-", "*/log")], [rule("get", "-", "pods/log")], True),
        ([rule("get", "-", "pods/log")], [rule("get", "-", "*/log")], False),
        ([rule("get", "-", "pods")], [rule("get", "-", "pods/log")], False),
        ([rule("get", "-", "*")], [rule("get", "-", "pods/log */scale")], True),
        # Names narrow.
        ([rule("get", "-", "pods")], [rule("get", "-", "pods", "a")], True),
        ([rule("get", "-", "pods", "a")], [rule("get", "-", "pods")], False),
        ([rule("get", "-", "pods", "a"), rule("get", "-", "pods", "b")], [rule("get", "-", "pods", "a b")], True),
        ([rule("get", "-", "pods", "a")], [rule("get", "-", "pods", "a b")], False),
        # Paths.
        ([rule("get", paths="/api/*")], [rule("get", paths="/api/v1 /api/v1/*")], True),
        ([rule("get", paths="/api")], [rule("get", paths="/api*")], False),
        ([rule("get", paths="*")], [rule("get", paths="/x")], True),
        ([rule("get", "-", "pods")], [rule("get", paths="/x")], False),
        ([], [], True),
        ([], [rule("get", "-", "pods")], False),
    ],
)
def test_what_is_covered_is_no_escalation(held: list[Rule], asked: list[Rule], covered: bool) -> None:
    assert (rbac.uncovered(held, asked) == []) is covered


WORDS = {
    "verbs": ["get", "list", "*"],
    "apiGroups": ["", "apps", "*"],
    "resources": ["pods", "pods/log", "*/log", "*"],
    "resourceNames": ["a", "b"],
    "nonResourceURLs": ["/a", "/a/*", "/a/b", "*"],
}


def lists(key: str, minimum: int = 1) -> Any:
    return st.lists(st.sampled_from(WORDS[key]), min_size=minimum, max_size=3)


RESOURCE_RULES = st.fixed_dictionaries(
    {"verbs": lists("verbs"), "apiGroups": lists("apiGroups"), "resources": lists("resources")},
    optional={"resourceNames": lists("resourceNames", 0)},
)
PATH_RULES = st.fixed_dictionaries({"verbs": lists("verbs"), "nonResourceURLs": lists("nonResourceURLs")})
RULES = st.lists(RESOURCE_RULES | PATH_RULES, max_size=4).map(rbac.rules)
EVERYTHING = [
    *(
        Attributes(verb, group=group, resource=resource, subresource=subresource, name=name)
        for verb, group, resource, subresource, name in product(
            ["get", "list", "x"], ["", "apps", "x"], ["pods", "x"], ["", "log", "x"], ["", "a", "b", "x"]
        )
    ),
    *(Attributes(verb, path) for verb, path in product(["get", "x"], ["/a", "/a/b", "/a/b/c", "/x"])),
]


@given(RULES, RULES)
def test_whoever_has_what_covers_a_rule_may_do_all_that_it_allows(held: Any, asked: Any) -> None:
    escalating = rbac.uncovered(held, asked)
    for attributes in EVERYTHING:
        for each in asked:
            if each not in escalating and each.allows(attributes):
                assert any(mine.allows(attributes) for mine in held)


@given(RULES)
def test_everybody_covers_what_he_has_and_nothing_more_than_all(held: Any) -> None:
    assert rbac.uncovered(held, held) == []
    assert rbac.uncovered([rule("*", "*", "*"), rule("*", paths="*")], held) == []
    assert rbac.uncovered(held, rbac.compact(held)) == []
    allowed = [any(each.allows(attributes) for each in held) for attributes in EVERYTHING]
    assert allowed == [any(each.allows(attributes) for each in rbac.compact(held)) for attributes in EVERYTHING]


def test_a_rule_too_large_to_take_apart_is_covered_only_whole() -> None:
    many = [f"r{number}" for number in range(rbac.COMBINATIONS_MAX)]
    large = rbac.rules([{"verbs": ["get", "list"], "apiGroups": [""], "resources": many}])
    halves = rbac.rules([{"verbs": [verb], "apiGroups": [""], "resources": many} for verb in ("get", "list")])
    assert rbac.uncovered(large, large) == []
    assert rbac.uncovered(halves, large) == list(large)


def test_subjects_of_a_binding_are_found_by_the_users_they_name() -> None:
    binding = {
        "metadata": {"namespace": "team"},
        "subjects": [
            {"kind": "User", "name": "eve"},
            {"kind": "Group", "name": "devs"},
            {"kind": "ServiceAccount", "name": "bot"},
            {"kind": "ServiceAccount", "name": "bot", "namespace": "other"},
            {"kind": "Robot", "name": "eve"},
            {"kind": "User"},
            "eve",
        ],
    }
    assert list(rbac.subject_keys(binding)) == [
        ("User", "eve"),
        ("Group", "devs"),
        ("User", "system:serviceaccount:team:bot"),
        ("User", "system:serviceaccount:other:bot"),
    ]
    assert list(rbac.subject_keys({"subjects": "eve"})) == []
    assert list(rbac.subject_keys({"subjects": [{"kind": "ServiceAccount", "name": "bot"}]})) == []
    eve = User("eve", ("devs", "all"))
    assert list(rbac.keys_of(eve)) == [("User", "eve"), ("Group", "devs"), ("Group", "all")]


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ({"kind": "Role", "name": "r"}, ("team", "r")),
        ({"kind": "ClusterRole", "name": "r"}, ("", "r")),
        ({"kind": "Robot", "name": "r"}, None),
        ({"kind": "Role"}, None),
        (None, None),
    ],
)
def test_the_role_of_a_binding(reference: Any, key: Any) -> None:
    assert rbac.role_key({"metadata": {"namespace": "team"}, "roleRef": reference}) == key


@pytest.mark.parametrize(
    "name", ["eve", "system:serviceaccount:", "system:serviceaccount:a", "system:serviceaccount:a:b:c"]
)
def test_a_user_is_not_taken_for_an_account(name: str) -> None:
    assert rbac.account_of(name) is None


def test_an_account_is_the_user_of_its_name() -> None:
    assert rbac.account_of(rbac.account_user("team", "bot")) == ("team", "bot")
    assert rbac.account_groups("team") == ("system:serviceaccounts", "system:serviceaccounts:team")


@pytest.mark.parametrize("documents", [None, "x", [None], [{"verbs": "get"}], [{"verbs": [1]}], {"verbs": ["get"]}])
def test_what_is_no_rule_allows_nothing(documents: Any) -> None:
    assert rbac.rules(documents) == ()
