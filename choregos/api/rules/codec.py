"""Request bodies into decoded JSON, answers into bytes; what a client accepts. Pure.

JSON and YAML are read, and Kubernetes' protobuf of the kinds that kubectl's typed commands send (`rules.protobuf`).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import Any

import msgspec
import yaml

from choregos.api.rules import protobuf
from choregos.api.rules.status import bad_request, not_acceptable, unsupported_media
from choregos.foundation.bounded_yaml import ManifestLoader
from choregos.foundation.errors import TooLarge
from choregos.resources.validation import dotted

JSON = "application/json"
YAML = "application/yaml"
ACCEPTED = (JSON, YAML, protobuf.MEDIA_TYPE)
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH)
"""Patches that are given as JSON."""

encode = msgspec.json.encode

VALUES_MAX = 100_000
"""Values in a body, those within others included: a large AgentCluster has 30,000. Each costs far more to check than to
send, so a bound on bytes alone would leave seconds of work."""

_FAULT_LENGTH_MAX = 500
"""Of what the reader of a body says of it: some quote it."""


class _Loader(ManifestLoader):
    values_max = VALUES_MAX


def decode(body: bytes, content_type: str) -> Any:
    """The JSON value of a body.

    Args:
        content_type: the header; missing or `*/*` means JSON.

    Raises:
        Refusal: 400 for a body that cannot be read, 415 for a media type that is not served.
        TooLarge: it holds more than `VALUES_MAX` values.
    """
    media_type = media_type_of(content_type)
    if media_type in (YAML, APPLY_PATCH, "application/x-yaml", "text/yaml"):
        return _decode_yaml(body)
    if media_type == protobuf.MEDIA_TYPE:
        return protobuf.decode(body)
    if media_type and media_type not in (JSON, "*/*", "application/x-www-form-urlencoded", *PATCHES):
        raise unsupported_media(media_type, ACCEPTED)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the request body is not valid JSON: {str(error)[:_FAULT_LENGTH_MAX]}") from error
    _check_extent(value, len(body))
    return value


def _check_extent(value: Any, length: int) -> None:
    # A value and what is between it and the next are two bytes at least.
    if length >= 2 * VALUES_MAX and count(value, VALUES_MAX) > VALUES_MAX:
        raise TooLarge(f"Request entity too large: limit is {VALUES_MAX} values")


def count(value: Any, most: float = inf) -> int:
    """Of how many values a JSON value is made, itself included; beyond `most` it looks no further."""
    found, containers = 1, [value]
    while containers and found <= most:
        container = containers.pop()
        if isinstance(container, dict | list):
            parts = container.values() if isinstance(container, dict) else container
            found += len(parts)
            if found <= most:
                containers.extend(part for part in parts if isinstance(part, dict | list))
    return found


class _Object(dict[str, Any]):
    """An object that knows which of its keys were given more than once."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        found.repeated = tuple(name for name, count in counts.items() if count > 1)
    return found


def repeated_keys(body: bytes, content_type: str, value: Any) -> tuple[str, ...]:
    """The paths of keys that are given more than once in a body of JSON, of which the last counts.

    Args:
        value: what the body has been decoded to.
    """
    if body.lstrip()[:1] not in (b"{", b"[") or media_type_of(content_type) not in (JSON, "", "*/*", *PATCHES):
        return ()  # YAML with such keys is refused, and protobuf has none
    # As long as the body without its blanks, usually: then nothing has been lost.
    if len(msgspec.json.format(body, indent=-1)) == len(encode(value)):
        return ()
    found: list[str] = []
    places: list[tuple[tuple[int | str, ...], Any]] = [((), json.loads(body, object_pairs_hook=_object))]
    while places:
        place, part = places.pop()
        if isinstance(part, _Object):
            found.extend(dotted((*place, name)) for name in part.repeated)
            places.extend(((*place, name), below) for name, below in part.items())
        elif isinstance(part, list):
            places.extend(((*place, index), below) for index, below in enumerate(part))
    return tuple(sorted(found))


def decode_object(body: bytes, content_type: str) -> dict[str, Any]:
    """As `decode`, for a body that must be an object with `metadata`, if any, an object too."""
    value = decode(body, content_type)
    if not isinstance(value, dict):
        raise bad_request("the request body must be an object")
    if not isinstance(value.get("metadata", {}), dict):
        raise bad_request("metadata must be an object")
    return value


def media_type_of(content_type: str) -> str:
    """`application/json` of `application/json; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def _decode_yaml(body: bytes) -> Any:
    if body.startswith(b"{"):
        # Most clients send JSON as YAML, which it nearly is, and which is much slower to read.
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            _check_extent(value, len(body))
            return value
    try:
        return yaml.load(body, Loader=_Loader)  # noqa: S506  (a safe one)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the request body is not valid YAML: {str(error)[:_FAULT_LENGTH_MAX]}") from error


@dataclass(frozen=True, slots=True)
class Accept:
    """What form of the answer the client prefers among those served.

    Attributes:
        form: `Object`, `Table`, `PartialObjectMetadata` or `PartialObjectMetadataList`.
        discovery: wants the aggregated discovery document.
    """

    form: str = "Object"
    discovery: bool = False


_DISCOVERY = "apidiscovery.k8s.io"
DISCOVERY_TYPE = f"{JSON};g={_DISCOVERY};v=v2;as=APIGroupDiscoveryList"
_FORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


def accept(header: str) -> Accept:
    """The first clause of an Accept header that can be served; an empty one takes anything.

    Raises:
        Refusal: 406, none can.
    """
    for clause in header.split(","):
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        if media_type.lower() not in (JSON, "*/*", "application/*"):
            continue
        values = dict(part.partition("=")[::2] for part in parameters)
        form, group, version = values.get("as"), values.get("g"), values.get("v")
        if form is None:
            return Accept()
        if group == "meta.k8s.io" and version == "v1" and form in _FORMS:
            return Accept(form)
        if group == _DISCOVERY and version == "v2" and form == "APIGroupDiscoveryList":
            return Accept(discovery=True)
    if header.strip(" ,;"):
        raise not_acceptable((JSON,))
    return Accept()
