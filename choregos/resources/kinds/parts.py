"""What the models of all kinds share: how they validate, metadata, conditions, and the scalar types.

The docstring of a field is its description in the OpenAPI schema, so `kubectl explain` prints it. Fields are declared
in Python's spelling and read and written in JSON's (`start_timeout_seconds`, `startTimeoutSeconds`).

Invariants: a null is the same as an absent field, as in Kubernetes; an unknown field is an error here, which
`validation` turns into a report; a dump without None is the normal form.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from choregos.foundation.timestamp import parse_rfc3339
from choregos.resources import names, percent, quantity, selectors
from choregos.resources.kinds.free_form import json_fault
from choregos.resources.rules.rule import Rule

QUANTITY = {"format": "quantity"}
INT_OR_STRING = {"format": "int-or-string"}
"""Schemas of scalars that have a component of their own; see `schema.COMPONENTS`."""


class Part(BaseModel):
    """A part of an object whose fields are written in camelCase."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        regex_engine="rust-regex",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if isinstance(value, dict) and None in value.values():
            return {key: entry for key, entry in value.items() if entry is not None}
        return value


class PartSchema(GenerateJsonSchema):
    """Generates schemas as Kubernetes has them.

    A part that is made when it is absent has the default `{}`: what is in it then, the defaults of its fields say. The
    keys of an object are not described.
    """

    def dict_schema(self, schema: core_schema.DictSchema) -> dict[str, Any]:
        made = super().dict_schema(schema)
        for values in made.pop("patternProperties", {}).values():
            made["additionalProperties"] = values
        return made

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        if "default_factory" not in schema:
            return super().get_default_value(schema)
        made = schema["default_factory"]()  # type: ignore[call-arg]
        return {} if isinstance(made, Part) else made


class SnakePart(Part):
    """A part whose fields are written in snake_case, as the published manifests do."""

    model_config = ConfigDict(alias_generator=None)


def _written(parts: list[Part] | None) -> list[dict[str, Any]] | None:
    if parts is None:
        return None
    return [part.model_dump(by_alias=True, exclude_none=True, exclude_unset=True) for part in parts]


AsWritten = PlainSerializer(_written)
"""For lists in what people apply: stored without defaults inside. A merge patch replaces a list whole, so `kubectl
apply` would find a difference, and say `configured`, whenever an element has a field more than the manifest."""


SetOf = Field(json_schema_extra={"x-kubernetes-list-type": "set"})
"""For lists whose elements are scalars that differ: they are owned, and merged, one by one."""


ONE_VALUE: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}
"""For objects that are owned, and replaced, as a whole."""


def map_by(key: str) -> Any:
    """For lists whose elements are named by a required field: they are owned, and merged, one by one."""
    return Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]})


T = TypeVar("T")


def _checked(fault: Any) -> AfterValidator:
    """A validator from a function that returns what is wrong, or an empty string."""

    def check(value: T) -> T:
        message = fault(value)
        if message:
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _whole_seconds(value: Any) -> Any:
    # 10.0 and 10 are the same duration and must not be two templates.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _canonical_amount(value: Any) -> Any:
    text = quantity.canonical(value)
    if quantity.parse(text) < 0:
        raise ValueError(f"expected a quantity of at least 0, found {value}")
    return text


def _canonical_memory(value: Any) -> Any:
    text = _canonical_amount(value)
    if quantity.parse(text) % 1000:
        raise ValueError(f"{value!r} is a fraction of a byte; m is a thousandth, M and Mi are millions")
    return text


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _time_fault(value: str) -> str:
    fault = "expected a time with zone (RFC 3339), such as 2026-11-22T18:59:07Z"
    if not _TIME.fullmatch(value):
        return fault
    try:
        parse_rfc3339(value)
    except ValueError:
        return fault
    return ""


def _selector_fault(value: str) -> str:
    try:
        selectors.parse_label_selector(value)
    except ValueError as error:
        return str(error)
    return ""


_SHOWN_LENGTH_MAX = 80


def _pattern(pattern: str, expected: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Text that looks like this, which is told in words if it does not."""
    look = re.compile(pattern)

    def fault(value: str) -> str:
        return "" if look.fullmatch(value) else f"expected {expected}, found {value[:_SHOWN_LENGTH_MAX]!r}"

    return _checked(fault), WithJsonSchema({"type": "string", "pattern": pattern})


def _name(fault: Any, pattern: re.Pattern[str], length_max: int) -> tuple[AfterValidator, WithJsonSchema]:
    return _checked(fault), WithJsonSchema(
        {"type": "string", "pattern": f"^{pattern.pattern}$", "maxLength": length_max}
    )


def _nul_fault(value: str) -> str:
    return "must not hold the character NUL" if "\0" in value else ""


ANNOTATIONS_BYTES_MAX = 262_144
"""Of all keys and values of one object's annotations together, as in Kubernetes."""


def _annotations_fault(value: dict[str, str]) -> str:
    size = sum(len(text.encode(errors="surrogatepass")) for entry in value.items() for text in entry)
    too_long = size > ANNOTATIONS_BYTES_MAX
    return f"Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes" if too_long else ""


Quantity = Annotated[str, BeforeValidator(_canonical_amount), WithJsonSchema(QUANTITY)]
MemoryQuantity = Annotated[str, BeforeValidator(_canonical_memory), WithJsonSchema(QUANTITY)]
Percent = Annotated[str, BeforeValidator(percent.canonical_percent), WithJsonSchema(INT_OR_STRING)]
CountOrPercent = Annotated[
    int | str, BeforeValidator(percent.canonical_count_or_percent), WithJsonSchema(INT_OR_STRING)
]
_SECONDS_MAX = 86_400
_SECONDS = {"type": "number", "minimum": 0, "maximum": _SECONDS_MAX}
Seconds = Annotated[
    float,
    Field(gt=0, le=_SECONDS_MAX),
    AfterValidator(_whole_seconds),
    WithJsonSchema(_SECONDS | {"exclusiveMinimum": True}),
]
SecondsOrZero = Annotated[float, Field(ge=0, le=_SECONDS_MAX), AfterValidator(_whole_seconds), WithJsonSchema(_SECONDS)]
Count = Annotated[int, Field(ge=0)]
Replicas = Annotated[int, Field(ge=0, le=1_000_000)]
DnsLabel = Annotated[str, *_name(names.label_fault, names.DNS_LABEL, names.LABEL_LENGTH_MAX)]
DnsSubdomain = Annotated[str, *_name(names.subdomain_fault, names.DNS_SUBDOMAIN, names.SUBDOMAIN_LENGTH_MAX)]
Word = Annotated[str, *_name(names.word_fault, names.WORD, names.LABEL_LENGTH_MAX)]
LabelValue = Annotated[
    str,
    _checked(names.label_value_fault),
    WithJsonSchema({"type": "string", "pattern": f"^({names.WORD.pattern})?$", "maxLength": names.LABEL_LENGTH_MAX}),
]
Qualified = Annotated[str, _checked(names.qualified_fault)]
EnvironmentName = Annotated[str, _checked(names.environment_fault)]
Selector = Annotated[str, _checked(_selector_fault)]
SystemText = Annotated[str, _checked(_nul_fault)]
"""Text that is handed to the operating system, which ends it at a NUL."""
MethodName = Annotated[str, *_pattern(r"^[A-Za-z_][A-Za-z0-9_]*$", "the name of a method, such as reply")]
ClassPath = Annotated[
    str,
    *_pattern(
        r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_.]*$",
        "a class as module:Class, such as support_agents.conversation:Conversation",
    ),
]
Labels = dict[Qualified, LabelValue]
Annotations = Annotated[dict[Qualified, str], _checked(_annotations_fault)]
FreeForm = Annotated[
    dict[str, Any],
    _checked(json_fault),
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
Time = Annotated[str, _checked(_time_fault), WithJsonSchema({"type": "string", "format": "date-time"})]


UNDOTTED_NAME = Rule(
    "!has(self.metadata.name) || !self.metadata.name.contains('.')",
    "must not hold a '.'",
    says="'\\'' + self.metadata.name + '\\' must be lower-case letters, digits and \\'-\\''",
    at=".metadata.name",
)
"""For kinds whose objects' names are labels, or parts of names that are."""


def name_length_max(length: int, why: str) -> Rule:
    """The name of the object has at most so many characters.

    Args:
        why: what comes after the number: `are allowed`.
    """
    return Rule(
        f"!has(self.metadata.name) || self.metadata.name.size() <= {length}",
        f"must have at most {length} characters",
        says=f"'has ' + string(self.metadata.name.size()) + ' characters, at most {length} {why}'",
        at=".metadata.name",
    )


class OwnerReference(Part):
    """An object that this one belongs to and is deleted with."""

    model_config = ConfigDict(json_schema_extra=ONE_VALUE)

    api_version: str
    """API version of the owner."""
    kind: str
    """Kind of the owner."""
    name: str
    """Name of the owner."""
    uid: str
    """UID of the owner."""
    controller: bool | None = None
    """Whether the owner manages this object. At most one owner does."""
    block_owner_deletion: bool | None = None
    """Whether foreground deletion of the owner waits for this object."""


class ManagedFieldsEntry(Part):
    """Fields that one manager has set."""

    manager: str = ""
    """Name of the manager: a person's tool, or a program."""
    operation: str = ""
    """`Apply` if it applies, `Update` if it creates, updates or patches."""
    api_version: str = ""
    """API version it wrote under."""
    time: Time | None = None
    """When the entry last changed."""
    fields_type: str = ""
    """Always `FieldsV1`."""
    fields_v1: FreeForm | None = None
    """The fields, as a tree: `f:` names a field, `k:` an element of a list by its keys, `v:` one by its value."""
    subresource: str = ""
    """Subresource it wrote through: `status`, `scale`."""


class ObjectMeta(Part):
    """Standard metadata of the object, as in Kubernetes: its name, labels and the like."""

    name: DnsSubdomain | None = None
    """Unique within the namespace, for this kind. Cannot be changed."""
    generate_name: str | None = None
    """Prefix from which the server makes a unique name when `name` is not given."""
    namespace: DnsLabel | None = None
    """The namespace the name is unique in. Cannot be changed."""
    uid: str | None = None
    """Unique over all time. Set by the server."""
    resource_version: str | None = None
    """Version of the object as stored: the sequence of its record in the log. Opaque; compare for equality only."""
    generation: int | None = None
    """Raised by the server each time the desired state (spec) changes."""
    creation_timestamp: Time | None = None
    """When the object was created. Set by the server."""
    deletion_timestamp: Time | None = None
    """When its deletion was asked for. The object stays until its finalizers are gone."""
    deletion_grace_period_seconds: int | None = None
    """Seconds it may take to end by itself once its deletion was asked for."""
    labels: Labels | None = None
    """Keys and values to select objects by: `team: care`."""
    annotations: Annotations | None = None
    """Keys and values for tools and people; nothing selects by them."""
    owner_references: Annotated[list[OwnerReference] | None, map_by("uid")] = None
    """Objects that this one is deleted with."""
    finalizers: Annotated[list[Qualified] | None, SetOf] = None
    """What must be done before the object disappears; whoever did its part removes its entry."""
    managed_fields: list[ManagedFieldsEntry] | None = None
    """Which fields were set by whom, for server-side apply. Kept by the server."""
    self_link: str | None = None
    """Not used; accepted because old manifests carry it."""


class Condition(Part):
    """One aspect of the state of an object."""

    type: Qualified
    """What is judged, in CamelCase: `Ready`."""
    status: str = Field(pattern="^(True|False|Unknown)$")
    """`True`, `False` or `Unknown`."""
    reason: str = ""
    """Why, as one CamelCase word that programs can rely on."""
    message: str = ""
    """Why, for people."""
    last_transition_time: Time | None = None
    """When the status last changed."""
    observed_generation: int | None = None
    """The metadata.generation that was judged."""


Conditions = Annotated[list[Condition], map_by("type")]


class Resource(Part):
    """A whole object."""

    api_version: str
    """API group and version of this object's schema."""
    kind: str
    """Kind of this object."""
    metadata: ObjectMeta
    """Standard metadata of the object."""
