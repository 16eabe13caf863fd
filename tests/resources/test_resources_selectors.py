"""Label and field selectors: tables of what matches, and that text and value say the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.resources.selectors import (
    REQUIREMENTS_MAX,
    LabelSelector,
    Requirement,
    field_text,
    label_selector,
    parse_field_selector,
    parse_label_selector,
)

GOLD_US = {"tier": "gold", "region": "us", "choregos.dev/set": "support-conversation", "rank": "7"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tier",
        "tier=gold",
        "tier==gold",
        " tier = gold ",
        "tier!=silver",
        "missing!=anything",
        "!missing",
        "tier in (gold, silver)",
        "tier notin (bronze),region",
        "missing notin (x)",
        "choregos.dev/set=support-conversation,region in (us,eu),!legacy",
        "rank>6",
        "rank<8",
        "in!=x",
    ],
)
def test_a_label_selector_matches(text: str) -> None:
    assert parse_label_selector(text).matches(GOLD_US)


@pytest.mark.parametrize(
    "text",
    [
        "missing",
        "tier=silver",
        "tier=",
        "!tier",
        "tier notin (gold)",
        "missing in (x)",
        "tier=gold,region=eu",
        "rank>7",
        "tier>1",
        "missing<1",
    ],
)
def test_a_label_selector_does_not_match(text: str) -> None:
    assert not parse_label_selector(text).matches(GOLD_US)


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a,",
        "a,,b",
        "=x",
        "a in",
        "a in x",
        "a in (x",
        "a in (x y)",
        "a b",
        "!",
        "!a=b",
        "a=b c",
        "a=b=c",
        "a>x",
        "a>",
        "a b/c/d",
        "-a=b",
        "a=" + "x" * 64,
        "a" * 20_000,
    ],
)
def test_what_is_no_label_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_label_selector(text)


def test_the_message_says_what_was_expected_where() -> None:
    with pytest.raises(ValueError, match=r"'tier in gold': expected '\(', found 'gold'"):
        parse_label_selector("tier in gold")


def test_an_empty_value_is_a_value() -> None:
    assert parse_label_selector("tier=").matches({"tier": ""})
    assert parse_label_selector("tier in (,gold)").matches({"tier": ""})


def test_the_structured_form_means_the_same() -> None:
    structured = label_selector(
        {
            "matchLabels": {"tier": "gold"},
            "matchExpressions": [
                {"key": "region", "operator": "In", "values": ["us", "eu"]},
                {"key": "legacy", "operator": "DoesNotExist"},
                {"key": "rank", "operator": "Exists"},
                {"key": "zone", "operator": "NotIn", "values": ["a"]},
            ],
        }
    )
    assert structured == parse_label_selector("tier=gold,region in (us,eu),!legacy,rank,zone notin (a)")


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "Near"},
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["x"]},
        {"key": "a b", "operator": "Exists"},
    ],
)
def test_a_wrong_expression_is_refused(expression: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        label_selector({"matchExpressions": [expression]})


WORDS = st.from_regex(r"[a-z0-9]([-a-z0-9_.]{0,8}[a-z0-9])?", fullmatch=True)
REQUIREMENTS = st.one_of(
    st.builds(Requirement, WORDS, st.sampled_from(["in", "notin"]), st.frozensets(WORDS | st.just(""), min_size=1)),
    st.builds(Requirement, WORDS, st.sampled_from(["exists", "absent"])),
    st.builds(
        Requirement, WORDS, st.sampled_from(["gt", "lt"]), st.integers(0, 999).map(lambda n: frozenset({str(n)}))
    ),
)


@given(st.lists(REQUIREMENTS, max_size=5).map(lambda requirements: LabelSelector(tuple(requirements))))
def test_the_text_of_a_label_selector_reads_back(selector: LabelSelector) -> None:
    assert parse_label_selector(str(selector)) == selector


@given(REQUIREMENTS, st.dictionaries(WORDS, WORDS))
def test_in_and_notin_exclude_each_other(requirement: Requirement, labels: dict[str, str]) -> None:
    opposites = {"in": "notin", "notin": "in", "exists": "absent", "absent": "exists"}
    if requirement.operator in opposites:
        opposite = Requirement(requirement.key, opposites[requirement.operator], requirement.values)
        assert requirement.matches(labels) is not opposite.matches(labels)


AGENT = {
    "metadata": {"name": "a-0", "namespace": "default"},
    "spec": {"node": "n1", "unschedulable": True},
    "status": {"phase": "Running", "restarts": 2, "reason": None},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "metadata.name=a-0",
        "metadata.name==a-0,metadata.namespace!=other",
        "status.phase=Running,spec.node=n1",
        "status.restarts=2",
        "spec.unschedulable=true",
        "status.reason=",
        "spec.missing=",
        "spec.missing.deeper!=x",
    ],
)
def test_a_field_selector_matches(text: str) -> None:
    assert parse_field_selector(text).matches(AGENT)


@pytest.mark.parametrize("text", ["metadata.name=b", "metadata.name!=a-0", "status.phase=Running,spec.node=n2"])
def test_a_field_selector_does_not_match(text: str) -> None:
    assert not parse_field_selector(text).matches(AGENT)


@pytest.mark.parametrize("text", ["metadata.name", "=x", "a=b=c", "a=b,,c=d", "a>b", ",a=b"])
def test_what_is_no_field_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a field selector"):
        parse_field_selector(text)


def test_escaped_characters_stand_for_themselves() -> None:
    selector = parse_field_selector(r"status.reason=a\,b\=c\\d")
    assert selector.matches({"status": {"reason": r"a,b=c\d"}})


def test_a_field_selector_tells_the_one_value_a_field_must_have() -> None:
    selector = parse_field_selector("metadata.name=x,spec.node!=n1")
    assert selector.value_of("metadata.name") == "x"
    assert selector.value_of("spec.node") is None


def test_a_field_selector_asks_for_fields_of_what_is_no_object() -> None:
    fields = {"status.phase": "Running"}
    assert parse_field_selector("status.phase=Running").matches_fields(lambda path: fields.get(path, ""))


@pytest.mark.parametrize(("parse", "one"), [(parse_label_selector, "a"), (parse_field_selector, "a!=")])
def test_a_selector_has_as_many_requirements_as_anybody_needs(parse: Any, one: str) -> None:
    assert len(parse(",".join([one] * REQUIREMENTS_MAX)).requirements) == REQUIREMENTS_MAX
    with pytest.raises(ValueError, match="a selector may have 100 requirements, this has more"):
        parse(",".join([one] * (REQUIREMENTS_MAX + 1)))
    with pytest.raises(ValueError, match="a selector may have 16384 characters, this has 20000"):
        parse("a" * 20_000)


@pytest.mark.parametrize("parse", [parse_label_selector, parse_field_selector])
def test_short_selectors_are_remembered_and_no_long_ones(parse: Any) -> None:
    assert parse("metadata.name=a") is parse("metadata.name=a")
    long = ",".join(f"metadata.name!={number}" for number in range(50))
    assert parse(long) is not parse(long)


def test_the_text_of_a_field() -> None:
    assert field_text(AGENT, "status.restarts") == "2"
    assert field_text(AGENT, "metadata.name.deeper") == ""
