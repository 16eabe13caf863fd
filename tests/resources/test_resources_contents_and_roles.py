"""ConfigMaps, Secrets, service accounts, roles and bindings: what is refused, and their normal form."""

from __future__ import annotations

from typing import Any

import pytest

from choregos.foundation.errors import Invalid
from choregos.resources.kind import Kind
from choregos.resources.kinds.core.configmap import CONFIGMAP
from choregos.resources.kinds.core.secret import SECRET
from choregos.resources.kinds.core.serviceaccount import SERVICEACCOUNT
from choregos.resources.kinds.rbac.binding import CLUSTERROLEBINDING, ROLEBINDING
from choregos.resources.kinds.rbac.role import CLUSTERROLE, ROLE
from choregos.resources.validation import validate

NOW_MS = 1_700_000_000_000
META = {"name": "x", "creationTimestamp": "2023-11-14T22:08:20Z"}
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
REFERENCE = {"kind": "ClusterRole", "name": "view"}


def normal(kind: Kind, **parts: Any) -> dict[str, Any]:
    return validate(kind, {"metadata": {"name": "x"}, **parts}).object


def faults(kind: Kind, previous: Any = None, **parts: Any) -> set[str]:
    with pytest.raises(Invalid) as caught:
        validate(kind, {"metadata": {"name": "x"}, **parts}, previous=previous)
    return {cause.path for cause in caught.value.causes}


def cells(kind: Kind, **parts: Any) -> dict[str, Any]:
    return {column.name: column.cell({"metadata": META, **parts}, NOW_MS) for column in kind.columns}


def test_text_of_a_secret_is_stored_as_its_bytes_over_what_is_there() -> None:
    secret = normal(SECRET, data={"a": "b2xk", "b": "Yg=="}, stringData={"a": "new", "c": "ü"})
    assert secret["data"] == {"a": "bmV3", "b": "Yg==", "c": "w7w="}
    assert "stringData" not in secret
    assert secret["type"] == "Opaque"


@pytest.mark.parametrize(
    ("parts", "paths"),
    [
        ({"data": {"a": "not base64"}}, {"data.a"}),
        ({"data": {"a": "YQ"}}, {"data.a"}),
        ({"data": {"a b": "YQ=="}}, {"data[a b]"}),
        ({"data": {"..": "YQ=="}}, {"data[..]"}),
        ({"stringData": {"a": 5}}, {"stringData.a"}),
        ({"type": ""}, {"type"}),
        ({"type": "kubernetes.io/tls", "data": {"tls.crt": "YQ=="}}, {"data[tls.key]"}),
        ({"type": "kubernetes.io/basic-auth"}, {"data"}),
        ({"type": "kubernetes.io/service-account-token"}, {"type"}),
    ],
)
def test_faults_of_a_secret(parts: Any, paths: set[str]) -> None:
    assert faults(SECRET, **parts) == paths


def test_no_fault_shows_what_is_in_a_secret() -> None:
    with pytest.raises(Invalid) as caught:
        validate(SECRET, {"metadata": {"name": "x"}, "data": {"password": "swordfish!"}})
    assert "swordfish" not in str(caught.value)
    assert cells(SECRET, type="Opaque", data={"a": "YQ==", "b": "Yg=="}) == {
        "Name": "x",
        "Type": "Opaque",
        "Data": 2,
        "Age": "5m",
    }


def test_the_types_of_secrets_are_content_with_their_keys() -> None:
    assert normal(SECRET, type="kubernetes.io/tls", stringData={"tls.crt": "a", "tls.key": "b"})
    assert normal(SECRET, type="kubernetes.io/basic-auth", stringData={"username": "a"})
    assert normal(SECRET, type="example.org/anything")


@pytest.mark.parametrize("kind", [SECRET, CONFIGMAP], ids=lambda kind: kind.kind)
def test_what_is_locked_stays(kind: Kind) -> None:
    locked = normal(kind, data={"a": "YQ=="}, immutable=True)
    assert validate(kind, {**locked, "metadata": {"name": "x", "labels": {"a": "b"}}}, previous=locked)
    assert faults(kind, locked, data={"a": "Yg=="}, immutable=True) == {"data"}
    assert faults(kind, locked, data={"a": "YQ=="}) == {"immutable"}
    assert faults(kind, locked, immutable=False) == {"data", "immutable"}
    open_ = normal(kind, data={"a": "YQ=="})
    assert validate(kind, {"metadata": {"name": "x"}, "immutable": True}, previous=open_)


def test_the_type_of_a_secret_stays() -> None:
    assert faults(SECRET, normal(SECRET), type="example.org/other") == {"type"}


def test_config_maps() -> None:
    assert faults(CONFIGMAP, data={"a": "x"}, binaryData={"a": "YQ=="}) == {"binaryData[a]"}
    assert faults(CONFIGMAP, data={"a": 1}, binaryData={"b": "?"}) == {"data.a", "binaryData.b"}
    assert cells(CONFIGMAP, data={"a": "x"}, binaryData={"b": "YQ=="}) == {"Name": "x", "Data": 2, "Age": "5m"}


def test_service_accounts() -> None:
    account = normal(SERVICEACCOUNT, secrets=[{"name": "a"}], imagePullSecrets=[{"name": "b"}])
    assert cells(SERVICEACCOUNT, secrets=account["secrets"]) == {"Name": "x", "Secrets": 1, "Age": "5m"}
    assert SERVICEACCOUNT.subresource_names == {"token"}


@pytest.mark.parametrize(
    ("kind", "rule", "paths"),
    [
        (ROLE, {**RULE, "verbs": []}, {"rules[0].verbs"}),
        (ROLE, {"verbs": ["get"]}, {"rules[0].apiGroups", "rules[0].resources"}),
        (ROLE, {"verbs": ["get"], "nonResourceURLs": ["/x"]}, {"rules[0].nonResourceURLs"}),
        (CLUSTERROLE, {**RULE, "nonResourceURLs": ["/x"]}, {"rules[0].nonResourceURLs"}),
        (CLUSTERROLE, {**RULE, "verbs": "get"}, {"rules[0].verbs"}),
        (CLUSTERROLE, {**RULE, "apiGroups": []}, {"rules[0].apiGroups"}),
    ],
)
def test_faults_of_rules(kind: Kind, rule: Any, paths: set[str]) -> None:
    assert faults(kind, rules=[rule]) == paths


def test_selectors_of_a_role_that_is_made_of_others_are_checked() -> None:
    good = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    assert normal(CLUSTERROLE, aggregationRule=good)["aggregationRule"] == good
    wrong = {"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Likes"}]}]}
    assert faults(CLUSTERROLE, aggregationRule=wrong) == {"aggregationRule.clusterRoleSelectors[0]"}


def test_names_of_roles_may_hold_colons_and_capitals() -> None:
    for name in ("system:discovery", "Team A", "ünï"):
        assert validate(ROLE, {"metadata": {"name": name}, "rules": [RULE]}).object["metadata"]["name"] == name
    for name in ("a/b", "50%", ".", "..", "a\nb"):
        with pytest.raises(Invalid):
            validate(ROLE, {"metadata": {"name": name}})


@pytest.mark.parametrize("kind", [ROLEBINDING, CLUSTERROLEBINDING])
def test_what_a_binding_binds_is_immutable(kind: Any) -> None:
    stored = validate(kind, {"metadata": {"name": "x"}, "roleRef": REFERENCE}).object
    with pytest.raises(Invalid) as caught:
        validate(kind, {"metadata": {"name": "x"}, "roleRef": {**REFERENCE, "name": "edit"}}, previous=stored)
    assert [str(cause) for cause in caught.value.causes] == ["roleRef: is immutable"]


def test_a_binding_says_of_which_group_its_subjects_are() -> None:
    subjects = [{"kind": "User", "name": "eve"}, {"kind": "ServiceAccount", "name": "bot"}]
    binding = normal(ROLEBINDING, subjects=subjects, roleRef={**REFERENCE, "apiGroup": ""})
    assert binding["subjects"] == [{**subjects[0], "apiGroup": "rbac.authorization.k8s.io"}, subjects[1]]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", **REFERENCE}
    more = [
        *binding["subjects"],
        {"kind": "ServiceAccount", "name": "bot", "namespace": "b"},
        {"kind": "Group", "name": "g"},
    ]
    assert cells(ROLEBINDING, subjects=more, roleRef=REFERENCE) == {
        "Name": "x",
        "Role": "ClusterRole/view",
        "Age": "5m",
        "Users": "eve",
        "Groups": "g",
        "ServiceAccounts": "bot, b/bot",
    }


@pytest.mark.parametrize(
    ("kind", "parts", "paths"),
    [
        (ROLEBINDING, {}, {"roleRef"}),
        (ROLEBINDING, {"roleRef": {"kind": "Robot", "name": "x"}}, {"roleRef.kind"}),
        (ROLEBINDING, {"roleRef": {**REFERENCE, "apiGroup": "apps"}}, {"roleRef.apiGroup"}),
        (CLUSTERROLEBINDING, {"roleRef": {"kind": "Role", "name": "x"}}, {"roleRef.kind"}),
        (
            CLUSTERROLEBINDING,
            {"roleRef": REFERENCE, "subjects": [{"kind": "ServiceAccount", "name": "b"}]},
            {"subjects[0].namespace"},
        ),
        (ROLEBINDING, {"roleRef": REFERENCE, "subjects": [{"kind": "User", "name": ""}]}, {"subjects[0].name"}),
        (
            ROLEBINDING,
            {"roleRef": REFERENCE, "subjects": [{"kind": "User", "name": "a", "apiGroup": "x"}]},
            {"subjects[0].apiGroup"},
        ),
        (ROLEBINDING, {"roleRef": REFERENCE, "subjects": "eve"}, {"subjects"}),
    ],
)
def test_faults_of_bindings(kind: Kind, parts: Any, paths: set[str]) -> None:
    assert faults(kind, **parts) == paths


def test_the_role_of_a_binding_stays() -> None:
    binding = normal(ROLEBINDING, roleRef=REFERENCE)
    assert faults(ROLEBINDING, binding, roleRef={"kind": "Role", "name": "x"}) == {"roleRef"}
    assert validate(ROLEBINDING, {**binding, "roleRef": REFERENCE}, previous=binding)
