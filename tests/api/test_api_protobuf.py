"""Kubernetes' protobuf: what kubectl sends is understood, and any other bytes are the client's fault."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from choregos.api.rules import protobuf
from choregos.api.rules.status import Refusal

PROTOBUF = "application/vnd.kubernetes.protobuf"


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def message(*fields: tuple[int, Any]) -> bytes:
    """(number, value) pairs; text and bytes have a length, numbers are varints."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def body(api_version: str, kind: str, *fields: tuple[int, Any], **envelope: Any) -> bytes:
    more = [(3, envelope["encoding"])] if "encoding" in envelope else []
    type_ = message((1, api_version), (2, kind))
    return b"k8s\0" + message((1, type_), (2, message(*fields)), *more, (4, envelope.get("content", "")))


# As Go writes it: what is no pointer is written even when it is empty.
EMPTY_META = [(2, ""), (3, ""), (4, ""), (5, ""), (6, ""), (7, 0), (8, b"")]


def test_a_namespace_as_kubectl_sends_it() -> None:
    sent = body("v1", "Namespace", (1, message((1, "team"), *EMPTY_META)), (2, b""), (3, message((1, ""))))
    assert protobuf.decode(sent) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}


def test_maps_bytes_and_flags() -> None:
    entries = [(2, message((1, "a"), (2, b"\x00\xff"))), (2, message((1, "empty"))), (2, message((2, b"x")))]
    sent = body("v1", "Secret", (1, message((1, "s"))), *entries, (3, "Opaque"), (5, 0))
    decoded = protobuf.decode(sent)
    assert decoded["data"] == {"a": "AP8=", "empty": "", "": "eA=="}
    assert (decoded["type"], decoded["immutable"]) == ("Opaque", False)


def test_metadata_with_everything() -> None:
    owner = message((1, "K"), (3, "o"), (4, "u"), (5, "v1"), (6, 1), (7, 0))
    moment = message((1, 1_700_000_000), (2, 5))
    managed = message((1, "m"), (2, "Update"), (4, moment), (6, "FieldsV1"), (7, message((1, b"{}"))))
    labels = (11, message((1, "tier"), (2, "gold")))
    meta = message((1, "x"), (8, moment), (10, 0), labels, (13, owner), (14, "f"), (17, managed))
    assert protobuf.decode(body("v1", "ConfigMap", (1, meta)))["metadata"] == {
        "name": "x",
        "creationTimestamp": "2023-11-14T22:13:20Z",
        "deletionGracePeriodSeconds": 0,
        "labels": {"tier": "gold"},
        "ownerReferences": [
            {"kind": "K", "name": "o", "uid": "u", "apiVersion": "v1", "controller": True, "blockOwnerDeletion": False}
        ],
        "finalizers": ["f"],
        "managedFields": [
            {"manager": "m", "operation": "Update", "time": "2023-11-14T22:13:20Z", "fieldsType": "FieldsV1"}
        ],
    }


def test_rules_keep_the_core_group_which_is_empty_text() -> None:
    rule = message((1, "get"), (2, ""), (3, "pods"), (3, "pods/log"))
    sent = body("rbac.authorization.k8s.io/v1", "Role", (1, message((1, "r"))), (2, rule))
    assert protobuf.decode(sent)["rules"] == [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"]}]


def test_options_that_were_given_are_kept_though_they_are_zero() -> None:
    options = [(1, 0), (2, message((1, "uid"))), (3, 0), (4, "Background"), (5, "All")]
    assert protobuf.decode(body("v1", "DeleteOptions", *options)) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "uid"},
        "orphanDependents": False,
        "propagationPolicy": "Background",
        "dryRun": ["All"],
    }
    assert protobuf.decode(body("v1", "DeleteOptions", (1, -1)))["gracePeriodSeconds"] == -1


def test_an_attribute_that_was_given_empty_is_still_given() -> None:
    sent = body("authorization.k8s.io/v1", "SelfSubjectAccessReview", (1, b""), (2, message((1, b""))))
    assert protobuf.decode(sent)["spec"] == {"resourceAttributes": {}}


def test_fields_that_are_not_known_are_left_out() -> None:
    fields = [(1, message((1, "x"), (99, "?"))), (98, 7), (97, b"?")]
    fixed = varint(96 << 3 | 5) + bytes(4) + varint(95 << 3 | 1) + bytes(8)
    sent = b"k8s\0" + message((1, message((2, "ConfigMap"))), (2, message(*fields) + fixed))
    assert protobuf.decode(sent) == {"kind": "ConfigMap", "metadata": {"name": "x"}}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"k8s", 400),
        (b"k8s\0", 415),
        (body("v1", "Pod"), 415),
        (body("v1", "ConfigMap", encoding="gzip"), 415),
        (body("v1", "ConfigMap", content="application/json"), 415),
        (body("v1", "ConfigMap", (1, 5)), 400),
        (body("v1", "ConfigMap", (2, message((1, 5)))), 400),
        (body("v1", "ConfigMap", (1, message((1, b"\xff")))), 400),
        (body("v1", "ConfigMap", (1, message((8, message((1, 2**62)))))), 400),
        (body("v1", "ConfigMap", (1, message((17, message((7, message((1, b"{")))))))), 400),
        (body("v1", "ConfigMap", (1, message((17, message((7, message((1, b"[" * 5000)))))))), 400),
        (b"k8s\0" + varint(1 << 3 | 2) + varint(2**60), 400),
        (b"k8s\0" + varint(1 << 3 | 3), 400),
        (b"k8s\0" + b"\xff" * 11, 400),
        (b"k8s\0" + b"\x80", 400),
        (body("v1", "ConfigMap") + b"\x0a", 400),
        (b"k8s\0" + bytes([99 << 1 & 0x78, 0]) * (protobuf.FIELDS_MAX + 1), 400),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, code: int) -> None:
    with pytest.raises(Refusal) as caught:
        protobuf.decode(data)
    assert caught.value.code == code


SAMPLES = [
    body(version, kind, (1, message((1, "x"), *EMPTY_META, (11, message((1, "a"), (2, "b"))))), (2, message((1, "y"))))
    for version, kind in (("v1", "Namespace"), ("v1", "Secret"), ("rbac.authorization.k8s.io/v1", "ClusterRole"))
]


@given(
    st.binary(max_size=200).map(lambda data: b"k8s\0" + data)
    | st.tuples(st.sampled_from(sorted(protobuf.KINDS)), st.binary(max_size=200)).map(
        lambda each: b"k8s\0" + message((1, message((1, "v1"), (2, each[0]))), (2, each[1]))
    )
    | st.tuples(st.sampled_from(SAMPLES), st.integers(0, 10**6), st.binary(max_size=3)).map(
        lambda each: each[0][: each[1] % len(each[0])] + each[2] + each[0][each[1] % len(each[0]) + len(each[2]) :]
    )
)
def test_any_bytes_are_an_object_or_the_clients_fault(data: bytes) -> None:
    outcome = decoded_or_code(data)
    assert isinstance(outcome, dict) or outcome in (400, 415)


def decoded_or_code(data: bytes) -> Any:
    try:
        return protobuf.decode(data)
    except Refusal as refusal:
        return refusal.code


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(protobuf.KINDS)), data=st.binary(max_size=60))
def test_no_bytes_make_the_server_fail(open_world: Any, kind: str, data: bytes) -> None:
    paths = {
        "ServiceAccount": "/api/v1/namespaces/default/serviceaccounts",
        "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
        "SubjectAccessReview": "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "TokenReview": "/apis/authentication.k8s.io/v1/tokenreviews",
    }
    versions = {"Role": "rbac.authorization.k8s.io/v1", "SubjectAccessReview": "authorization.k8s.io/v1"}
    sent = body(versions.get(kind, "v1"), kind) + message((2, message((1, message((1, "x")))) + data))

    async def run() -> None:
        async with open_world() as world:
            path = paths.get(kind, "/api/v1/namespaces/default/configmaps")
            reply = await world.client.post(path, sent, content=PROTOBUF)
            assert reply.code in (201, 400, 415, 422)

    asyncio.run(run())


async def test_a_typed_creation_is_answered_in_json(client: Any) -> None:
    sent = body("v1", "ConfigMap", (1, message((1, "settings"), *EMPTY_META)), (2, message((1, "a"), (2, "b"))))
    reply = await client.post(
        "/api/v1/namespaces/default/configmaps", sent, content=PROTOBUF, accept=f"{PROTOBUF},application/json"
    )
    assert (reply.code, reply.json["data"]) == (201, {"a": "b"})
    assert reply.header("content-type") == ["application/json"]
    options = body("v1", "DeleteOptions", (2, message((1, "another"))))
    path = "/api/v1/namespaces/default/configmaps/settings"
    assert (await client.delete(path, options, content=PROTOBUF)).code == 409
    assert (await client.delete(path, body("v1", "DeleteOptions"), content=PROTOBUF)).code == 200


def test_a_quota_with_all_that_is_refused_of_it() -> None:
    hard = message((1, "pods"), (2, message((1, "3"))))
    scope = message((1, "PriorityClass"), (2, "In"), (3, "high"))
    spec = message((1, hard), (2, "BestEffort"), (3, message((1, scope))))
    decoded = protobuf.decode(body("v1", "ResourceQuota", (1, message((1, "q"))), (2, spec)))
    assert decoded["spec"] == {
        "hard": {"pods": "3"},
        "scopes": ["BestEffort"],
        "scopeSelector": {
            "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}],
        },
    }
