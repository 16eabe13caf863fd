"""The parts of a value, as the structure of its kind takes it apart, and the steps that lead to them.

A list whose elements cannot be told apart (a name is missing or there twice) is one value: to compare and merge never
fails, and validation complains of it.
"""

from __future__ import annotations

from typing import Any

from choregos.api.apply import fieldset
from choregos.resources.schema import ANY, Node, element_name

Part = tuple[Node, Any, bool]
"""What it is, its value, and whether it is a field that the structure has by name."""


def parts(node: Node, value: Any) -> dict[str, Part] | None:
    """The parts of a value by the steps that lead to them, in their order; None if it has none, being one value.

    Where there may be parts null is no value: it has none of them.
    """
    if node.form == "scalar" or node.atomic:
        return None
    if isinstance(value, dict) and node.form != "list":
        fields, other = node.fields, node.element or ANY
        return {f"f:{name}": (fields.get(name, other), part, name in fields) for name, part in value.items()}
    if isinstance(value, list) and node.is_named_list:
        steps = [element_step(node, item) for item in value]
        if "" in steps or len(set(steps)) < len(steps):
            return None
        element = node.element or ANY
        return {step: (element, item, False) for step, item in zip(steps, value, strict=True)}
    return {} if value is None and (node.form == "object" or node.is_named_list) else None


def element_step(node: Node, item: Any) -> str:
    """The step to an element of a named list; empty if the element does not say who it is."""
    names = element_name(node, item)
    if names is None:
        return ""
    return fieldset.value(names[0]) if node.unique else fieldset.key(dict(zip(node.keys, names, strict=True)))
