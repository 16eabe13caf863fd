"""`metadata.managedFields`: the owners of an object's fields as clients read and write them, and as they are stored.

In stored objects it is one JSON text: nobody has to look into it but the API server, it takes the memory of its bytes
and no more, and an answer carries it as it is. Invariant: equal owners are equal text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from choregos.api.apply import fieldset
from choregos.api.apply.merge import collapsed
from choregos.api.apply.ownership import APPLY, NOBODY, OWNERS_MAX, UPDATE, Entry, Owners, too_many
from choregos.foundation.remembered import remembered
from choregos.foundation.timestamp import parse_rfc3339, rfc3339
from choregos.resources.kind import Kind, Object, ReadOnlyObject
from choregos.resources.schema import Node, structure

NAME = "managedFields"
MANAGER_LENGTH_MAX = 128
SUBRESOURCE_LENGTH_MAX = 256
_FORM = "FieldsV1"


def owners_of(kind: Kind, document: ReadOnlyObject) -> Owners:
    """The owners of a stored object's fields."""
    text = document["metadata"].get(NAME)
    return _load(text, structure(kind)) if text else NOBODY


@remembered(entries=256, length_max=8192)
def _load(text: str, node: Node) -> Owners:
    entries = (
        Entry(
            written["manager"],
            written["operation"],
            written["apiVersion"],
            written.get("subresource", ""),
            written.get("time", ""),
            collapsed(node, written["fieldsV1"]),
        )
        for written in msgspec.json.decode(text)
    )
    return {entry.identity: entry for entry in entries}


def with_owners(document: Object, owners: Owners) -> Object:
    """`document` as it is stored when its fields have these owners."""
    metadata = {name: value for name, value in document["metadata"].items() if name != NAME}
    if owners:
        metadata[NAME] = _text(owners)
    return {**document, "metadata": metadata}


def _text(owners: Owners) -> str:
    written = []
    for entry in sorted(owners.values(), key=_order):
        item = {"manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version}
        item |= {"time": entry.time} if entry.time else {}
        item |= {"subresource": entry.subresource} if entry.subresource else {}
        written.append({**item, "fieldsType": _FORM, "fieldsV1": entry.fields})
    return msgspec.json.encode(written, order="sorted").decode()


def _order(entry: Entry) -> tuple[str, ...]:
    return entry.operation, entry.time, entry.manager, entry.api_version, entry.subresource


def shown(document: Object) -> Object:
    """A stored object as clients see it."""
    text = document["metadata"].get(NAME)
    if not isinstance(text, str):
        return document
    return {**document, "metadata": {**document["metadata"], NAME: msgspec.Raw(text.encode())}}


def opened(document: Object) -> Object:
    """A stored object for a patch that may look into its `managedFields`."""
    text = document["metadata"].get(NAME)
    if not isinstance(text, str):
        return document
    return {**document, "metadata": {**document["metadata"], NAME: msgspec.json.decode(text)}}


def claimed(kind: Kind, old: ReadOnlyObject, body: ReadOnlyObject) -> Owners:
    """The owners that the writer of `body` starts from: those of `old`, unless it says others.

    An empty list, or one with an empty entry, says nobody. What cannot be read says nothing, as in Kubernetes: so a
    client that does not understand the field cannot destroy it.

    Raises:
        Refusal: 422, there are more than `OWNERS_MAX`.
    """
    written = (body.get("metadata") or {}).get(NAME)
    if written is None or written == old["metadata"].get(NAME):
        return owners_of(kind, old)
    if written in ([], [{}]):
        return NOBODY
    if isinstance(written, list) and len(written) > OWNERS_MAX:
        raise too_many()
    try:
        return _read(kind, written) or owners_of(kind, old)
    except ValueError:
        return owners_of(kind, old)


def _read(kind: Kind, written: Any) -> Owners:
    """What a client has written, in the normal form. Raises: ValueError, it is wrong."""
    if not isinstance(written, list):
        raise ValueError("managedFields must be a list")  # noqa: TRY004 # a value's fault
    served = {kind.api_version, *(f"{group}/{version}" if group else version for group, version in kind.aliases)}
    owners = {}
    for item in written:
        if not isinstance(item, dict):
            raise ValueError("an entry of managedFields must be an object")  # noqa: TRY004
        entry = _entry(item)
        # What was written under a version that is no longer served says nothing any more.
        if entry.fields and entry.api_version in served:
            owners[entry.identity] = entry
    return owners


def _entry(item: Object) -> Entry:
    manager, version = item.get("manager", ""), item.get("apiVersion")
    subresource, time = item.get("subresource", ""), item.get("time") or ""
    if not all(isinstance(text, str) for text in (manager, version, subresource, time)) or not version:
        raise ValueError("manager, apiVersion, subresource and time must be text")
    if item.get("operation") not in (APPLY, UPDATE) or item.get("fieldsType") != _FORM:
        raise ValueError(f"operation must be Apply or Update, fieldsType {_FORM}")
    if len(manager) > MANAGER_LENGTH_MAX or not manager.isprintable() or len(subresource) > SUBRESOURCE_LENGTH_MAX:
        raise ValueError("manager or subresource is too long, or not printable")
    if time:
        try:
            time = rfc3339(parse_rfc3339(time))
        except OverflowError as error:
            raise ValueError(f"{time} is no time") from error
    return Entry(manager, item["operation"], version, subresource, time, fieldset.read(item.get("fieldsV1")))
