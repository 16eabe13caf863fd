"""Request bodies into decoded JSON, answers into bytes; what a client accepts. Pure.

JSON and YAML are read, and Kubernetes' protobuf of the kinds that kubectl's typed commands send (`rules.protobuf`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from choregos.api.rules import protobuf
from choregos.api.rules.status import bad_request, unsupported_media
from choregos.foundation.bounded_yaml import BoundedLoader

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


def decode(body: bytes, content_type: str) -> Any:
    """The JSON value of a body.

    Args:
        content_type: the header; missing or `*/*` means JSON.

    Raises:
        Refusal: 400 for a body that cannot be read, 415 for a media type that is not served.
    """
    media_type = media_type_of(content_type)
    if media_type in (YAML, APPLY_PATCH, "application/x-yaml", "text/yaml"):
        return _decode_yaml(body)
    if media_type == protobuf.MEDIA_TYPE:
        return protobuf.decode(body)
    if media_type and media_type not in (JSON, "*/*", "application/x-www-form-urlencoded", *PATCHES):
        raise unsupported_media(media_type, ACCEPTED)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the request body is not valid JSON: {error}") from error


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
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    try:
        value = yaml.load(body, Loader=BoundedLoader)  # noqa: S506  (a safe one)
        # Once through JSON: dates become text, keys become strings, and what JSON cannot say is found here.
        return msgspec.json.decode(msgspec.json.encode(value))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError, ValueError) as error:
        raise bad_request(f"the request body is not valid YAML: {error}") from error


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
    """The first clause of an Accept header that can be served; anything unknown is answered with plain JSON."""
    for clause in header.split(","):
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        if media_type not in (JSON, "*/*", "application/*"):
            continue
        values = dict(part.partition("=")[::2] for part in parameters)
        form, group, version = values.get("as"), values.get("g"), values.get("v")
        if form is None:
            return Accept()
        if group == "meta.k8s.io" and version == "v1" and form in _FORMS:
            return Accept(form)
        if group == _DISCOVERY and version == "v2" and form == "APIGroupDiscoveryList":
            return Accept(discovery=True)
    return Accept()
