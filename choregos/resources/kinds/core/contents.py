"""What ConfigMaps and Secrets have in common: keys, base64, and how they are locked."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from choregos.foundation.errors import FieldError
from choregos.resources import names
from choregos.resources.kind import ReadOnlyObject

CONTENTS = ("data", "binaryData")


def _check_key(key: str) -> str:
    if fault := names.key_fault(key):
        raise ValueError(fault)
    return key


def _check_base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        # Never with the text itself: it may be a secret that somebody forgot to encode.
        raise ValueError("is no base64; use stringData for plain text") from error
    return text


DataKey = Annotated[str, AfterValidator(_check_key)]
Base64 = Annotated[str, AfterValidator(_check_base64), WithJsonSchema({"type": "string", "format": "byte"})]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def keys(value: Any) -> set[str]:
    """The keys of what may not be an object."""
    return {key for key in value if isinstance(key, str)} if isinstance(value, dict) else set()


def lock_faults(previous: ReadOnlyObject, obj: ReadOnlyObject) -> Iterator[FieldError]:
    """What an update does to an object that was locked by `immutable: true`."""
    if previous.get("immutable") is not True:
        return
    locked = "cannot be changed while `immutable` is set; delete the object and make it anew"
    if obj.get("immutable") is not True:
        yield FieldError("immutable", "cannot be taken back", "FieldValueForbidden")
    for name in CONTENTS:
        if (previous.get(name) or {}) != (obj.get(name) or {}):
            yield FieldError(name, locked, "FieldValueForbidden")


def count(obj: ReadOnlyObject, now_ms: int) -> int:
    """A cell: how many entries there are."""
    return sum(len(keys(obj.get(name))) for name in CONTENTS)
