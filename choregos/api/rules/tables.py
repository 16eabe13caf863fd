"""Objects as rows of `meta.k8s.io/v1 Table`, which is what `kubectl get` prints. Pure."""

from __future__ import annotations

from typing import Any

from choregos.foundation.terminal import printable
from choregos.resources.kind import Column, Kind, Object, ReadOnlyObject

INCLUDES = ("Metadata", "Object", "None")
"""Values of the `includeObject` parameter: what comes with each row."""


def definitions(kind: Kind) -> list[dict[str, Any]]:
    """The `columnDefinitions` of a kind."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format or ("name" if column.name == "Name" else ""),
            "description": column.description,
            "priority": 1 if column.wide else 0,
        }
        for column in kind.columns
    ]


def row(columns: tuple[Column, ...], document: Object, now_ms: int, include: str) -> dict[str, Any]:
    """One row; `include` says what the client gets along with the cells."""
    cells = [_cell(column.cell(document, now_ms)) for column in columns]
    if include == "None":
        return {"cells": cells}
    if include == "Object":
        return {"cells": cells, "object": document}
    # Who owns which field is more than all the rest, and no reader of tables asks for it.
    metadata = {name: value for name, value in document["metadata"].items() if name != "managedFields"}
    return {"cells": cells, "object": partial({"metadata": metadata})}


def _cell(value: Any) -> Any:
    """Cells are for terminals, which an agent's message must not steer."""
    return printable(value) if isinstance(value, str) else value


def empty(metadata: dict[str, Any]) -> Object:
    """A Table without rows; in a watch it carries a bookmark."""
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": [], "rows": []}


def partial(document: ReadOnlyObject) -> Object:
    """Only the metadata of an object, as `PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": document["metadata"]}
