"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386) over decoded JSON. Pure; documents given in are not changed.

Strategic merge is not offered for these kinds, as Kubernetes offers none for custom resources; clients fall back.
"""

from __future__ import annotations

import copy
from typing import Any

from choregos.api.rules import codec
from choregos.api.rules.status import Refusal, bad_request
from choregos.foundation.errors import FieldError, TooLarge
from choregos.resources.kind import equal

OPERATIONS_MAX = 10_000
"""Most operations in one JSON Patch: Kubernetes' own limit."""

COPY_BYTES_MAX = 3 * 1024 * 1024
"""Most text that `copy` operations may add, so that a small patch cannot make a huge document."""

COPIED_VALUES_MAX = 1000
"""Most values that they may add, those within others included: each costs far more to check than its text, and what is
copied into itself doubles with each operation."""


def merge(target: Any, patch: Any) -> Any:
    """`target` with an RFC 7386 merge patch applied: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def check_growth(old: Any, new: Any) -> None:
    """No object grows, one patch after the other, to more values than a body may have.

    Raises:
        TooLarge
    """
    values = codec.count(new)
    if values > codec.VALUES_MAX and values > codec.count(old):
        raise TooLarge(f"the object would have more than {codec.VALUES_MAX} values")


def apply_operations(document: Any, operations: Any) -> Any:
    """`document` with an RFC 6902 patch applied: all operations in order, or none.

    Raises:
        Refusal: 400 for something that is no JSON Patch, 422 for one that does not fit the document.
    """
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is an array of operations")
    if len(operations) > OPERATIONS_MAX:
        raise Refusal(
            413,
            "RequestEntityTooLarge",
            f"the patch has {len(operations)} operations, the limit is {OPERATIONS_MAX}",
        )
    result = copy.deepcopy(document)
    copied = copied_bytes = 0
    for number, operation in enumerate(operations):
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise bad_request(f"operation {number} of the JSON patch needs `op` and `path`")
        if operation.get("op") == "copy":
            source = _read(result, _pointer(operation, "from"), number)
            copied += codec.count(source, COPIED_VALUES_MAX)
            if copied > COPIED_VALUES_MAX:
                raise _unfit(number, f"the patch copies more than {COPIED_VALUES_MAX} values")
            copied_bytes += len(repr(source))
            if copied_bytes > COPY_BYTES_MAX:
                raise Refusal(413, "RequestEntityTooLarge", f"the patch copies more than {COPY_BYTES_MAX} bytes")
        result = _apply(result, operation, number)
    return result


def _apply(document: Any, operation: dict[str, Any], number: int) -> Any:
    path = _pointer(operation, "path")
    match operation.get("op"):
        case "add":
            return _add(document, path, _value(operation, number), number)
        case "remove":
            return _remove(document, path, number)
        case "replace":
            _read(document, path, number)
            return _set(document, path, _value(operation, number), number)
        case "move":
            source = _pointer(operation, "from")
            if path[: len(source)] == source and path != source:
                raise _unfit(number, "cannot move a value into itself")
            value = _read(document, source, number)
            return _add(_remove(document, source, number), path, value, number)
        case "copy":
            value = copy.deepcopy(_read(document, _pointer(operation, "from"), number))
            return _add(document, path, value, number)
        case "test":
            if not equal(_read(document, path, number), _value(operation, number)):
                raise _unfit(number, f"testing path {operation['path']} failed")
            return document
        case other:
            raise bad_request(f"operation {number} of the JSON patch has the unknown op {other!r}")


def _value(operation: dict[str, Any], number: int) -> Any:
    if "value" not in operation:
        raise bad_request(f"operation {number} of the JSON patch needs `value`")
    return copy.deepcopy(operation["value"])


def _pointer(operation: dict[str, Any], key: str) -> list[str]:
    """The reference tokens of an RFC 6901 pointer; the empty pointer is the whole document."""
    text = operation.get(key)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise bad_request(f"`{key}` of a JSON patch operation must be a JSON pointer, not {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _unfit(number: int, message: str) -> Refusal:
    cause = FieldError(f"patch[{number}]", message, "UnexpectedServerResponse")  # kubectl prints nothing but causes
    return Refusal(422, "Invalid", f"operation {number} of the JSON patch does not fit: {message}", causes=(cause,))


def _read(document: Any, path: list[str], number: int) -> Any:
    for token in path:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(document, token, number, end=False)]
        else:
            raise _unfit(number, f"the path /{'/'.join(path)} does not exist")
    return document


def _index(array: list[Any], word: str, number: int, *, end: bool) -> int:
    """The position that `word` names; `end` allows the one behind the last element, also written `-`."""
    if end and word == "-":
        return len(array)
    if not (word.isascii() and word.isdigit()) or (len(word) > 1 and word[0] == "0"):
        raise _unfit(number, f"{word!r} is no array index")
    position = int(word) if len(word) < 10 else len(array) + 1
    if position >= len(array) + end:
        raise _unfit(number, f"array index {word} is out of bounds")
    return position


def _add(document: Any, path: list[str], value: Any, number: int) -> Any:
    if not path:
        return value
    parent = _read(document, path[:-1], number)
    if isinstance(parent, list):
        parent.insert(_index(parent, path[-1], number, end=True), value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise _unfit(number, f"/{'/'.join(path[:-1])} is neither an object nor an array")
    return document


def _set(document: Any, path: list[str], value: Any, number: int) -> Any:
    if not path:
        return value
    parent = _read(document, path[:-1], number)
    if isinstance(parent, list):
        parent[_index(parent, path[-1], number, end=False)] = value
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str], number: int) -> Any:
    if not path:
        return None
    _read(document, path, number)
    parent = _read(document, path[:-1], number)
    if isinstance(parent, list):
        del parent[_index(parent, path[-1], number, end=False)]
    else:
        del parent[path[-1]]
    return document
