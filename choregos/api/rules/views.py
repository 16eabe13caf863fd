"""The form in which a client gets objects: whole, as a Table or as metadata; under the version it asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from choregos.api.apply.managed_fields import shown
from choregos.api.rules import tables
from choregos.api.rules.codec import Accept
from choregos.api.rules.status import bad_request
from choregos.resources.kind import Kind, Object

INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True)
class View:
    """How one request sees the objects of one kind.

    Attributes:
        api_version: under which the objects are shown; the kind's own or an alias.
        form: see `Accept`.
        include: see `tables.INCLUDES`.
    """

    kind: Kind
    api_version: str
    form: str
    include: str

    def object(self, document: Object) -> Object:
        """A whole object under the version that was asked for."""
        document = shown(document)
        if document["apiVersion"] == self.api_version:
            return document
        return {**document, "apiVersion": self.api_version}

    def one(self, document: Object, now_ms: int) -> Object:
        """The answer that carries one object."""
        if self.form == "Table":
            revision = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
            return self.many((document,), revision, now_ms)
        if self.form == "PartialObjectMetadata":
            return tables.partial(shown(document))
        return self.object(document)

    def many(self, documents: Iterable[Object], metadata: dict[str, Any], now_ms: int) -> Object:
        """The answer that carries a list."""
        listing, key = self.frame(metadata)
        listing[key] = [self.element(document, now_ms) for document in documents]
        return listing

    def frame(self, metadata: dict[str, Any]) -> tuple[Object, str]:
        """The answer that carries a list, without its elements, and the key they belong under."""
        if self.form == "Table":
            return {**tables.empty(metadata), "columnDefinitions": tables.definitions(self.kind)}, "rows"
        kind, api_version = f"{self.kind.kind}List", self.api_version
        if self.form == "PartialObjectMetadataList":
            kind, api_version = self.form, "meta.k8s.io/v1"
        return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": []}, "items"

    def element(self, document: Object, now_ms: int) -> Object:
        """One element of a list."""
        if self.form == "Table":
            return tables.row(self.kind.columns, self.object(document), now_ms, self.include)
        if self.form == "PartialObjectMetadataList":
            return tables.partial(shown(document))
        return self.object(document)

    def event(self, type: str, document: Object, revision: int, now_ms: int, *, first: bool) -> dict[str, Any]:
        """One watch event; the first Table of a watch has the column definitions, the others leave them out."""
        if document["metadata"].get("resourceVersion") != str(revision):
            # A deletion is shown with the revision of the deletion, so that a client can resume after it.
            document = {**document, "metadata": {**document["metadata"], "resourceVersion": str(revision)}}
        if self.form == "Table":
            seen = tables.empty({"resourceVersion": str(revision)})
            seen["columnDefinitions"] = tables.definitions(self.kind) if first else []
            seen["rows"] = [tables.row(self.kind.columns, self.object(document), now_ms, self.include)]
        elif self.form == "Object":
            seen = self.object(document)
        else:
            seen = tables.partial(shown(document))
        return {"type": type, "object": seen}

    def bookmark(self, revision: int, *, initial_end: bool = False) -> dict[str, Any]:
        """A watch event that only says how far the watch has come."""
        metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = INITIAL_EVENTS_END
        if self.form == "Table":
            return {"type": "BOOKMARK", "object": tables.empty(metadata)}
        if self.form != "Object":
            return {"type": "BOOKMARK", "object": tables.partial({"metadata": metadata})}
        return {
            "type": "BOOKMARK",
            "object": {"kind": self.kind.kind, "apiVersion": self.api_version, "metadata": metadata},
        }


def view(kind: Kind, api_version: str, accept: Accept, include: str | None) -> View:
    """Raises: Refusal 400 for an unknown `includeObject`."""
    include = include or "Metadata"
    if include not in tables.INCLUDES:
        raise bad_request(f"includeObject must be one of {', '.join(tables.INCLUDES)}, not {include!r}")
    return View(kind, api_version, accept.form, include)


def transition(type: str, *, matched: bool, matches: bool) -> str | None:
    """What a watcher with a selector sees of a change; None if nothing.

    Args:
        type: `ADDED`, `MODIFIED` or `DELETED`, as without a selector.
        matched: whether the object matched before the change.
        matches: whether it matches now; for a deletion, whether it did last.
    """
    if type == "DELETED":
        return "DELETED" if matched else None
    if matches:
        return "MODIFIED" if matched and type == "MODIFIED" else "ADDED"
    return "DELETED" if matched else None
