"""Request bodies in Kubernetes' protobuf, which kubectl's typed commands send, into decoded JSON. Pure; reads only.

Owns the wire format and the field tables of the kinds that such commands send. The tables follow the `generated.proto`
files of Kubernetes' API. Invariants: any bytes give an object or a `Refusal` of the client, in time that grows with
their number; a field that the tables do not have is left out, as every protobuf reader does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from choregos.api.rules.status import Refusal, bad_request, unsupported_media
from choregos.foundation.timestamp import rfc3339, rfc3339_micro

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"

FIELDS_MAX = 100_000
"""Fields in one body; more than any object that is stored can have."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_LENGTH = {_FIXED64: 8, _FIXED32: 4}


class _Malformed(Exception):
    """The bytes are no message of their table."""


Scalar = Callable[[Any], Any]
"""From a varint or from bytes to a JSON value; an empty one is said as None, "", 0 or False."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        of: what its value is; a mapping is the table of a message.
        then: for a message, what becomes of it.
        wire: wire type of the value.
        repeated, keyed: a list; a map, whose keys are text.
        optional: sent only when it was given, so that its zero value is one too.
    """

    name: str
    of: Scalar | Mapping[int, Field]
    then: Callable[[dict[str, Any]], Any] | None = None
    wire: int = _BYTES
    repeated: bool = False
    keyed: bool = False
    optional: bool = False


class _Budget:
    """How many fields may still come."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = FIELDS_MAX

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Malformed(f"more than {FIELDS_MAX} fields")


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
        Refusal: 400, it is none; 415, it is of a kind that is read as JSON and YAML only.
    """
    if not body.startswith(MAGIC):
        raise bad_request("the request body is no Kubernetes protobuf: it does not begin with k8s")
    budget = _Budget()
    try:
        envelope = _message(_UNKNOWN, memoryview(body)[len(MAGIC) :], budget)
        type_ = envelope.get("typeMeta", {})
        table = KINDS.get(type_.get("kind", ""))
        if table is None or envelope.get("contentEncoding") or envelope.get("contentType"):
            raise _not_read(type_.get("kind", ""))
        return {**type_, **_message(table, envelope.get("raw", memoryview(b"")), budget)}
    except (_Malformed, UnicodeDecodeError, ValueError, OverflowError, OSError) as error:
        raise bad_request(f"the request body is not valid protobuf: {error}") from error


def _not_read(kind: str) -> Refusal:
    return unsupported_media(f"{MEDIA_TYPE} of kind {kind[:64]!r}", ("application/json", "application/yaml"))


def _message(table: Mapping[int, Field], data: memoryview, budget: _Budget) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, wire, raw in _fields(data, budget):
        field = table.get(number)
        if field is None:
            continue
        if wire != field.wire:
            raise _Malformed(f"{field.name} has wire type {wire}")
        if field.keyed:
            key, value = _entry(field, raw, budget)
            found.setdefault(field.name, {})[key] = value
        elif field.repeated:
            found.setdefault(field.name, []).append(_value(field, raw, budget))
        else:
            value = _value(field, raw, budget)
            # What was not given is sent as its zero value too, but for optional fields; JSON leaves it out.
            if field.optional or (value is not None and value not in ("", 0, {})):
                found[field.name] = value
    return found


def _value(field: Field, raw: Any, budget: _Budget) -> Any:
    if not isinstance(field.of, Mapping):
        return field.of(raw)
    found = _message(field.of, raw, budget)
    return found if field.then is None else field.then(found)


def _entry(field: Field, data: memoryview, budget: _Budget) -> tuple[str, Any]:
    """Key and value of one entry of a map; either is empty text where it is left out."""
    key, value = "", _value(field, memoryview(b""), budget)
    for number, wire, raw in _fields(data, budget):
        if wire != _BYTES:
            raise _Malformed(f"an entry of {field.name} has wire type {wire}")
        if number == 1:
            key = _text(raw)
        elif number == 2:
            value = _value(field, raw, budget)
    return key, value


def _fields(data: memoryview, budget: _Budget) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, varint or bytes) of each field, as they come."""
    position = 0
    while position < len(data):
        budget.spend()
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in _FIXED_LENGTH:
            length = _FIXED_LENGTH[wire]
        else:
            raise _Malformed(f"wire type {wire} is not known")
        if length > len(data) - position:
            raise _Malformed("it ends too early")
        yield number, wire, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _Malformed("it ends too early")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), position
    raise _Malformed("a number has more than 64 bits")


def _text(raw: memoryview) -> str:
    return str(raw, "utf-8")


def _base64(raw: memoryview) -> str:
    return base64.b64encode(raw).decode()


def _integer(raw: int) -> int:
    return raw - 2**64 if raw >= 2**63 else raw


def _time(moment: dict[str, Any]) -> str | None:
    return rfc3339(moment.get("seconds", 0) * 1000) if moment else None


def _micro_time(moment: dict[str, Any]) -> str | None:
    return rfc3339_micro(moment.get("seconds", 0) * 1000 + moment.get("nanos", 0) // 1_000_000) if moment else None


def _json(fields: dict[str, Any]) -> Any:
    raw = fields.get("raw", b"")
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Malformed("fieldsV1 is no JSON") from error


def _string(name: str, *, optional: bool = False) -> Field:
    return Field(name, _text, optional=optional)


def _strings(name: str) -> Field:
    return Field(name, _text, repeated=True)


def _texts(name: str) -> Field:
    return Field(name, _text, keyed=True)


def _number(name: str, *, optional: bool = False) -> Field:
    return Field(name, _integer, wire=_VARINT, optional=optional)


def _flag(name: str, *, optional: bool = False) -> Field:
    return Field(name, bool, wire=_VARINT, optional=optional)


def _moment(name: str, then: Callable[[dict[str, Any]], Any] = _time) -> Field:
    return Field(name, _MOMENT, then)


def _part(name: str, table: Mapping[int, Field], *, optional: bool = False) -> Field:
    return Field(name, table, optional=optional)


def _parts(name: str, table: Mapping[int, Field]) -> Field:
    return Field(name, table, repeated=True)


Table = Mapping[int, Field]

_MOMENT: Table = {1: _number("seconds"), 2: _number("nanos")}
_UNKNOWN: Table = {
    1: _part("typeMeta", {1: _string("apiVersion"), 2: _string("kind")}),
    2: Field("raw", memoryview, optional=True),
    3: _string("contentEncoding"),
    4: _string("contentType"),
}
_OWNER: Table = {
    1: _string("kind"),
    3: _string("name"),
    4: _string("uid"),
    5: _string("apiVersion"),
    6: _flag("controller", optional=True),
    7: _flag("blockOwnerDeletion", optional=True),
}
_MANAGED: Table = {
    1: _string("manager"),
    2: _string("operation"),
    3: _string("apiVersion"),
    4: _moment("time"),
    6: _string("fieldsType"),
    7: Field("fieldsV1", {1: Field("raw", bytes)}, _json),
    8: _string("subresource"),
}
_META: Table = {
    1: _string("name"),
    2: _string("generateName"),
    3: _string("namespace"),
    5: _string("uid"),
    6: _string("resourceVersion"),
    7: _number("generation"),
    8: _moment("creationTimestamp"),
    9: _moment("deletionTimestamp"),
    10: _number("deletionGracePeriodSeconds", optional=True),
    11: _texts("labels"),
    12: _texts("annotations"),
    13: _parts("ownerReferences", _OWNER),
    14: _strings("finalizers"),
    17: _parts("managedFields", _MANAGED),
}
_METADATA = _part("metadata", _META)
_REFERENCE: Table = {
    1: _string("kind"),
    2: _string("namespace"),
    3: _string("name"),
    4: _string("uid"),
    5: _string("apiVersion"),
    6: _string("resourceVersion"),
    7: _string("fieldPath"),
}
_EXPRESSION: Table = {1: _string("key"), 2: _string("operator"), 3: _strings("values")}
_SELECTOR: Table = {1: _texts("matchLabels"), 2: _parts("matchExpressions", _EXPRESSION)}
_SCOPE: Table = {1: _string("scopeName"), 2: _string("operator"), 3: _strings("values")}
_POLICY_RULE: Table = {
    1: _strings("verbs"),
    2: _strings("apiGroups"),
    3: _strings("resources"),
    4: _strings("resourceNames"),
    5: _strings("nonResourceURLs"),
}
_BINDING: Table = {
    1: _METADATA,
    2: _parts("subjects", {1: _string("kind"), 2: _string("apiGroup"), 3: _string("name"), 4: _string("namespace")}),
    3: _part("roleRef", {1: _string("apiGroup"), 2: _string("kind"), 3: _string("name")}),
}
_ROLE: Table = {1: _METADATA, 2: _parts("rules", _POLICY_RULE)}
_ATTRIBUTES: Table = {
    1: _string("namespace"),
    2: _string("verb"),
    3: _string("group"),
    4: _string("version"),
    5: _string("resource"),
    6: _string("subresource"),
    7: _string("name"),
}
_ACCESS: Table = {
    1: _part("resourceAttributes", _ATTRIBUTES, optional=True),
    2: _part("nonResourceAttributes", {1: _string("path"), 2: _string("verb")}, optional=True),
}
_SUBJECT_ACCESS: Table = {
    **_ACCESS,
    3: _string("user"),
    4: _strings("groups"),
    5: Field("extra", {1: _strings("items")}, lambda found: found.get("items", []), keyed=True),
    6: _string("uid"),
}
_SUBJECT_REVIEW: Table = {1: _METADATA, 2: _part("spec", _SUBJECT_ACCESS)}
_BOUND: Table = {1: _string("kind"), 2: _string("apiVersion"), 3: _string("name"), 4: _string("uid")}
_TOKEN_REQUEST: Table = {
    1: _strings("audiences"),
    3: _part("boundObjectRef", _BOUND, optional=True),
    4: _number("expirationSeconds", optional=True),
}
_DELETE_OPTIONS: Table = {
    1: _number("gracePeriodSeconds", optional=True),
    2: _part("preconditions", {1: _string("uid", optional=True), 2: _string("resourceVersion", optional=True)}),
    3: _flag("orphanDependents", optional=True),
    4: _string("propagationPolicy", optional=True),
    5: _strings("dryRun"),
}
_EVENT: Table = {
    1: _METADATA,
    2: _part("involvedObject", _REFERENCE),
    3: _string("reason"),
    4: _string("message"),
    5: _part("source", {1: _string("component"), 2: _string("host")}),
    6: _moment("firstTimestamp"),
    7: _moment("lastTimestamp"),
    8: _number("count"),
    9: _string("type"),
    10: _moment("eventTime", _micro_time),
    11: _part("series", {1: _number("count"), 2: _moment("lastObservedTime", _micro_time)}),
    12: _string("action"),
    13: _part("related", _REFERENCE),
    14: _string("reportingComponent"),
    15: _string("reportingInstance"),
}

KINDS: Mapping[str, Table] = {
    "Namespace": {
        1: _METADATA,
        2: _part("spec", {1: _strings("finalizers")}),
        3: _part("status", {1: _string("phase")}),
    },
    "ConfigMap": {
        1: _METADATA,
        2: _texts("data"),
        3: Field("binaryData", _base64, keyed=True),
        4: _flag("immutable", optional=True),
    },
    "Secret": {
        1: _METADATA,
        2: Field("data", _base64, keyed=True),
        3: _string("type"),
        4: _texts("stringData"),
        5: _flag("immutable", optional=True),
    },
    "ServiceAccount": {
        1: _METADATA,
        2: _parts("secrets", _REFERENCE),
        3: _parts("imagePullSecrets", {1: _string("name")}),
        4: _flag("automountServiceAccountToken", optional=True),
    },
    "ResourceQuota": {
        1: _METADATA,
        2: _part(
            "spec",
            {
                1: Field("hard", {1: _string("text")}, lambda found: found.get("text", ""), keyed=True),
                2: _strings("scopes"),
                3: _part("scopeSelector", {1: _parts("matchExpressions", _SCOPE)}, optional=True),
            },
        ),
    },
    "Event": _EVENT,
    "Role": _ROLE,
    "ClusterRole": {
        **_ROLE,
        3: _part("aggregationRule", {1: _parts("clusterRoleSelectors", _SELECTOR)}, optional=True),
    },
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "SelfSubjectAccessReview": {1: _METADATA, 2: _part("spec", _ACCESS)},
    "SubjectAccessReview": _SUBJECT_REVIEW,
    "LocalSubjectAccessReview": _SUBJECT_REVIEW,
    "SelfSubjectRulesReview": {1: _METADATA, 2: _part("spec", {1: _string("namespace")})},
    "SelfSubjectReview": {1: _METADATA},
    "TokenReview": {1: _METADATA, 2: _part("spec", {1: _string("token"), 2: _strings("audiences")})},
    "TokenRequest": {1: _METADATA, 2: _part("spec", _TOKEN_REQUEST)},
    "DeleteOptions": _DELETE_OPTIONS,
    "Eviction": {1: _METADATA, 2: _part("deleteOptions", _DELETE_OPTIONS, optional=True)},
}
"""By kind; which group it is of is said beside it and checked as for any body."""
