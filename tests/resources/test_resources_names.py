"""Which names are valid, and how valid ones are made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.resources import names


@pytest.mark.parametrize("name", ["a", "a-b", "1", "a" * 63])
def test_a_label_is_accepted(name: str) -> None:
    assert names.label_fault(name) == ""


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "a" * 64, "a\n", "ä"])
def test_what_is_no_label_is_told(name: str) -> None:
    assert names.label_fault(name)


def test_a_name_that_is_too_long_where_it_is_stored_is_told() -> None:
    dots = ".".join("a" * 64)
    assert names.subdomain_fault(dots) == ""
    assert "takes 256 bytes where it is stored" in names.subdomain_fault(f"{dots}aaa")
    assert names.path_segment_fault(":" * 85) == ""
    assert "takes 258 bytes" in names.path_segment_fault(":" * 86)
    assert "takes 258 bytes" in names.path_segment_fault("ü" * 43)


@pytest.mark.parametrize("name", ["a.b", "node-1.rack-7.example", "a" * 253])
def test_a_subdomain_is_accepted(name: str) -> None:
    assert names.subdomain_fault(name) == ""


@pytest.mark.parametrize("name", ["", "a..b", ".a", "a.", "a" * 254, "a.B"])
def test_what_is_no_subdomain_is_told(name: str) -> None:
    assert names.subdomain_fault(name)


@pytest.mark.parametrize("name", ["tier", "choregos.dev/set", "a.b/c_d.e"])
def test_a_qualified_name_is_accepted(name: str) -> None:
    assert names.qualified_fault(name) == ""


@pytest.mark.parametrize("name", ["", "/a", "a/", "A_b/c", "a/b/c", "a b"])
def test_what_is_no_qualified_name_is_told(name: str) -> None:
    assert names.qualified_fault(name)


@pytest.mark.parametrize("name", ["PATH", "_X", "a.b-c"])
def test_a_variable_is_accepted(name: str) -> None:
    assert names.environment_fault(name) == ""


@pytest.mark.parametrize("name", ["", "1A", "A=B", "A B"])
def test_what_is_no_variable_is_told(name: str) -> None:
    assert names.environment_fault(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [("nlp_agent", "nlp-agent"), ("NLP.Agent", "nlp-agent"), ("us-east", "us-east"), ("_a__b_", "a-b"), ("___", "")],
)
def test_a_name_is_made_fit_for_dns(text: str, name: str) -> None:
    assert names.dns_label(text) == name


@given(st.text(max_size=63))
def test_a_made_name_is_valid_or_empty_and_final(text: str) -> None:
    name = names.dns_label(text)
    assert name == "" or names.label_fault(name) == ""
    assert names.dns_label(name) == name
