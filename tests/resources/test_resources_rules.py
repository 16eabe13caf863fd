"""Rules in CEL: where they stand, what they are shown, how they are judged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, Field

from choregos.foundation.errors import FieldError, Invalid
from choregos.resources.kind import Kind
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.kinds.parts import Part, Resource
from choregos.resources.registry import KINDS
from choregos.resources.rules import evaluation
from choregos.resources.rules.evaluation import broken_rules, outline, places
from choregos.resources.rules.rule import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, VALIDATIONS, Rule, ruled
from choregos.resources.schema import openapi_schema
from choregos.resources.validation import validate


def declared(schema: dict[str, Any], path: str = "", *, in_list: bool = False) -> Iterator[tuple[str, Any, Any, bool]]:
    """(path, schema, rule, whether below a list) of every rule."""
    for rule in schema.get(VALIDATIONS, ()):
        yield path, schema, rule, in_list
    for name, child in schema.get("properties", {}).items():
        yield from declared(child, f"{path}.{name}", in_list=in_list)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from declared(schema[key], f"{path}[]", in_list=in_list or key == "items")


DECLARED = [
    pytest.param(schema, rule, in_list, id=f"{kind.kind}{path}-{number}")
    for kind in KINDS
    for number, (path, schema, rule, in_list) in enumerate(declared(openapi_schema(kind, kind.group, kind.version)))
]


def at(schema: dict[str, Any], names: list[str]) -> dict[str, Any] | None:
    for name in names:
        schema = schema.get("properties", {}).get(name)
        if schema is None:
            return None
    return schema


def spoken_of(found: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, within in found.items():
        yield from spoken_of(within, (*before, name)) if isinstance(within, dict) else [(*before, name)]


@pytest.mark.parametrize(("schema", "rule", "in_list"), DECLARED)
def test_a_rule_is_one_that_kubernetes_would_take(schema: dict[str, Any], rule: dict[str, str], in_list: bool) -> None:
    assert set(rule) <= {"rule", "message", "messageExpression", "fieldPath", "reason"}
    assert rule["message"]
    assert "\n" not in rule["message"]
    assert rule["reason"] in {INVALID, FORBIDDEN, REQUIRED, DUPLICATE}
    if "fieldPath" in rule:
        assert rule["fieldPath"].startswith(".")
        assert at(schema, rule["fieldPath"].split(".")[1:]) is not None
    assert not (in_list and "oldSelf" in rule["rule"]), "elements of lists are not compared with what they were"


@pytest.mark.parametrize(("schema", "rule", "in_list"), DECLARED)
def test_a_rule_speaks_of_fields_that_are_there_and_have_a_type(schema: Any, rule: Any, in_list: bool) -> None:
    for names in spoken_of(outline(f"{rule['rule']} {rule.get('messageExpression', '')}")):
        field = at(schema, list(names))
        assert field is not None, names
        assert "x-kubernetes-preserve-unknown-fields" not in field, names


def test_the_rules_stand_at_the_parts_they_are_about() -> None:
    spec = openapi_schema(AGENTCLUSTER, "choregos.dev", "v1")["properties"]["spec"]["properties"]
    (strategy,) = spec["agents"]["items"]["properties"]["strategy"][VALIDATIONS]
    assert strategy["message"] == "may not be 0 while maxSurge is 0"
    assert strategy["fieldPath"] == ".maxUnavailable"
    assert {rule["fieldPath"] for rule in spec["auto_scaling"][VALIDATIONS]} == {
        ".min_replicas",
        ".scale_down_threshold",
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("self.a == 1", {"a": "needed"}),
        ("has(self.a)", {"a": "present"}),
        ("has(self.a) && self.a > 1", {"a": "needed"}),
        ("self.a > 1 && has(self.a)", {"a": "needed"}),
        ("has(self.a.b) || self.a.c.size() > 0", {"a": {"b": "present", "c": "needed"}}),
        ("has(self.a) && has(self.a.b)", {"a": {"b": "present"}}),
        ("self.a.b == 1 && size(self.a) == 2", {"a": "needed"}),
        ("self.?a == oldSelf.?a", {"a": "needed"}),
        ("self.?a.orValue('x') == 'self.b'", {"a": "needed"}),
        ("self.a.all(x, x.matches('^self$'))", {"a": "needed"}),
        ("'it\\'s self.b' == self.a", {"a": "needed"}),
        ("self.all(k, k != 'x')", {}),
        ("size(self) > 0", {}),
        ("self == oldSelf", {}),
        ("myself.a == self.b", {"b": "needed"}),
    ],
)
def test_what_a_rule_speaks_of(source: str, found: dict[str, Any]) -> None:
    assert outline(source) == found


VALUES = st.sampled_from([None, "", "a", "Exists", "Equal", "0", "0%", "25%", 0, 1, 7, {}, {"a": {}}, {"name": "a.b"}])


class Below(Part):
    """A part."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule("!has(self.low) || !has(self.high) || self.low <= self.high", "is above high", at=".low"),
            Rule("self.high != 13", "an odd rule, which relies on what may be absent"),
        )
    )

    low: int | None = None
    """Low."""
    high: int | None = None
    """High."""


class Thing(Resource):
    """A thing."""

    items: list[Below] | None = None
    """In a list."""
    by_name: dict[str, Below] | None = None
    """By name."""
    one: Annotated[
        Below | None, Field(json_schema_extra=ruled(Rule("has(self.low)", "is asked for here", reason=REQUIRED)))
    ] = None
    """One, with a rule of its own."""


THING = Kind("example.org", "v1", "Thing", "things", "thing", namespaced=True, model=Thing, has_status=False)


def faults(**fields: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        validate(THING, {"metadata": {"name": "x"}, **fields})
    return {cause.path: cause.message for cause in caught.value.causes}


def test_a_rule_is_judged_wherever_its_part_occurs() -> None:
    bad, good = {"low": 2, "high": 1}, {"low": 1, "high": 2}
    assert faults(items=[good, bad, good, bad], byName={"a/b": bad, "c": good}, one=bad) == {
        "items[1].low": "is above high",
        "items[3].low": "is above high",
        "byName[a/b].low": "is above high",
        "one.low": "is above high",
    }


def test_rules_of_a_field_and_of_its_type_both_hold() -> None:
    assert faults(one={"high": 13}) == {"one": "is asked for here"}


def test_a_rule_that_cannot_be_judged_does_not_hold() -> None:
    (message,) = faults(items=[{"low": 1}]).values()
    assert message.startswith("an odd rule, which relies on what may be absent; but `self.high != 13` cannot be judged")


def test_a_rule_is_silent_about_what_the_model_has_found_wrong() -> None:
    found = faults(items=[{"low": "x", "high": 1}, {"low": 2, "high": 1}, {"low": None, "high": 1}, 5])
    assert set(found) == {"items[0].low", "items[1].low", "items[3]"}
    assert found["items[0].low"].startswith("expected a whole number")


def test_a_rule_about_changes_compares_with_what_is_stored() -> None:
    stored = validate(AGENTSET, {"metadata": {"name": "s"}, "spec": {"template": {"name": "t"}}}).object
    changed = {**stored, "spec": {**stored["spec"], "cluster": "c"}}
    assert list(broken_rules(AGENTSET, stored, previous=stored)) == []
    assert list(broken_rules(AGENTSET, changed)) == []
    (broken,) = broken_rules(AGENTSET, changed, previous=stored)
    assert broken == (("spec", "cluster"), "cannot be changed from nothing to 'c'", FORBIDDEN)


def test_a_rule_is_compiled_once() -> None:
    assert places(AGENTSET) is places(AGENTSET)


def test_many_occurrences_are_judged_by_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    value = evaluation._value

    def counted(expression: Any, data: Any) -> Any:
        calls.append(data)
        return value(expression, data)

    monkeypatch.setattr(evaluation, "_value", counted)
    validate(THING, {"metadata": {"name": "x"}, "items": [{"low": 1, "high": 2}] * 10_000})
    assert len(calls) == 20


def test_a_rule_that_goes_on_for_too_long_does_not_hold() -> None:
    labels = {f"label-{number}": "x" for number in range(20_000)}
    cluster = {"metadata": {"name": "c"}, "spec": {"agents": [{"name": "a", "labels": labels}]}}
    with pytest.raises(Invalid) as caught:
        validate(AGENTCLUSTER, cluster)
    (cause,) = caught.value.causes
    assert cause.path == "spec.agents[0].labels"
    assert "Iteration budget exceeded" in cause.message


@given(st.dictionaries(st.sampled_from(["key", "operator", "value", "maxSurge", "maxUnavailable"]), VALUES))
def test_no_value_makes_a_rule_fail_in_another_way(part: dict[str, Any]) -> None:
    template = {"name": "t", "placement": {"tolerations": [part]}}
    try:
        validate(AGENTSET, {"metadata": {"name": "s"}, "spec": {"template": template, "strategy": part}})
        causes: tuple[FieldError, ...] = ()
    except Invalid as invalid:
        causes = invalid.causes
    assert not any("cannot be judged" in cause.message for cause in causes)


@pytest.mark.real
def test_nobody_loads_cel_to_read_a_schema() -> None:
    program = (
        "import sys; from choregos.resources import registry, schema\n"
        "for kind in registry.KINDS: schema.structure(kind)\n"
        "assert not any(name.startswith('cel_expr_python') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
