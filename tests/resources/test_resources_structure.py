from __future__ import annotations

from typing import Any

import pytest

from choregos.foundation.errors import Invalid
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.kinds.event import EVENT
from choregos.resources.registry import KINDS
from choregos.resources.schema import Node, element_name, structure
from choregos.resources.validation import validate


def at(node: Node, path: str) -> Node:
    for name in path.split("."):
        node = node.element or node if name == "[]" else node.at(name)
    return node


@pytest.mark.parametrize(
    ("path", "keys", "unique"),
    [
        ("metadata.ownerReferences", ("uid",), False),
        ("metadata.finalizers", (), True),
        ("spec.agents", ("name",), False),
        ("spec.agents.[].capabilities", (), True),
        ("spec.agents.[].placement.tolerations", (), False),
        ("spec.orchestrator.levels", ("name",), False),
        ("spec.regions", ("name",), False),
        ("status.conditions", ("type",), False),
    ],
)
def test_lists_say_what_names_their_elements(path: str, keys: tuple[str, ...], unique: bool) -> None:
    node = at(structure(AGENTCLUSTER), path)
    assert (node.form, node.keys, node.unique) == ("list", keys, unique)


def test_references_are_one_value() -> None:
    assert at(structure(AGENTCLUSTER), "metadata.ownerReferences.[]").atomic
    assert at(structure(EVENT), "involvedObject").atomic


def test_free_form_parts_are_known_by_their_values_alone() -> None:
    assert at(structure(AGENTSET), "spec.template.settings.anything").form == "any"


def test_every_name_of_an_element_is_a_required_field() -> None:
    def named(node: Node) -> list[tuple[Node, str]]:
        inner = [pair for child in (*node.fields.values(), node.element) if child is not None for pair in named(child)]
        return inner + [(node, key) for key in node.keys]

    found = [pair for kind in KINDS for pair in named(structure(kind))]
    assert len(found) > 10
    assert all(node.element is not None and key in node.element.fields for node, key in found)


@pytest.mark.parametrize(
    ("item", "name"),
    [({"name": "a", "x": 1}, ("a",)), ({"x": 1}, None), ({"name": None}, None), ({"name": []}, None), ("a", None)],
)
def test_an_element_of_a_map_is_named_by_its_key(item: Any, name: Any) -> None:
    assert element_name(at(structure(AGENTCLUSTER), "spec.agents"), item) == name


@pytest.mark.parametrize(("item", "name"), [("a", ("a",)), (None, None), ({}, None), ([], None)])
def test_an_element_of_a_set_names_itself(item: Any, name: Any) -> None:
    assert element_name(at(structure(AGENTCLUSTER), "metadata.finalizers"), item) == name


def test_every_element_that_is_named_as_another_is_a_fault() -> None:
    owner = {"apiVersion": "v1", "kind": "K", "name": "o", "uid": "u"}
    document = {
        "metadata": {"name": "x", "finalizers": ["a/b", "a/c", "a/b"], "ownerReferences": [owner, owner]},
        "spec": {"agents": [{"name": "a", "capabilities": ["x", 5, "x"]}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Ready", "status": "False"}]},
    }
    with pytest.raises(Invalid) as raised:
        validate(AGENTCLUSTER, document)
    found = {cause.path: cause.message for cause in raised.value.causes if cause.reason == "FieldValueDuplicate"}
    assert found == {
        "metadata.finalizers[2]": "'a/b' is listed twice",
        "metadata.ownerReferences[1].uid": "'u' is listed twice",
        "spec.agents[0].capabilities[2]": "'x' is listed twice",
        "status.conditions[1].type": "'Ready' is listed twice",
    }


def test_nobody_looks_into_managed_fields() -> None:
    document = {"metadata": {"name": "x", "managedFields": "as stored"}, "spec": {"agents": []}}
    assert validate(AGENTCLUSTER, document).object["metadata"]["managedFields"] == "as stored"
