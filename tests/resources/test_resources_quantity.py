"""Quantities: the cases of Kubernetes' own tests, and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.resources import quantity

SUFFIXES = ["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-3", "e6"]


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("0", 0),
        ("500m", 500),
        ("1", 1_000),
        ("1.5", 1_500),
        (".5", 500),
        ("5.", 5_000),
        ("+2", 2_000),
        ("-2", -2_000),
        ("1k", 1_000_000),
        ("1e3", 1_000_000),
        ("1E3", 1_000_000),
        ("1E", 10**21),
        ("2500e-3", 2_500),
        ("1Ki", 1_024_000),
        ("0.5Gi", 512 * 1024**2 * 1000),
        ("4Gi", 4 * 1024**3 * 1000),
        ("1000000u", 1_000),
        ("1000000000n", 1_000),
        ("512Gi", 512 * 1024**3 * 1000),
    ],
)
def test_a_quantity_is_read_exactly(text: str, milli: int) -> None:
    assert quantity.parse(text) == milli


@pytest.mark.parametrize(("number", "milli"), [(2, 2_000), (0.1, 100), (1e3, 1_000_000), (0.5, 500), (1e-3, 1)])
def test_a_number_is_read_as_it_prints(number: float, milli: int) -> None:
    assert quantity.parse(number) == milli


@pytest.mark.parametrize(
    "value",
    ["", " 1", "1 ", "two", "1.2.3", "1KB", "1kib", "4gi", "1mi", "--1", "1e", "e3", "0x10", "1_000", "٣", "1" * 100],
)
def test_what_is_no_quantity_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        quantity.parse(value)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf")])
def test_values_that_only_look_like_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        quantity.parse(value)


@pytest.mark.parametrize("value", ["100u", "1n", "0.0001", 0.0001, "1e-4"])
def test_a_quantity_finer_than_a_thousandth_is_refused_and_not_rounded(value: str | float) -> None:
    with pytest.raises(ValueError, match="finer than a thousandth"):
        quantity.parse(value)


@pytest.mark.parametrize("value", ["9223372036854775808", "8Ei", "10E", "1e999"])
def test_a_quantity_beyond_64_bits_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="larger than"):
        quantity.parse(value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("10000", "10k"),
        ("1024", "1024"),
        ("1e3", "1e3"),
        ("1500e3", "1500e3"),
        ("1.5e3", "1500"),
        ("0.5e3", "500"),
        ("500e-3", "500e-3"),
        ("1024Mi", "1Gi"),
        ("1000Ki", "1000Ki"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("1.5Ki", "1536"),
        ("1025", "1025"),
        ("0Gi", "0"),
        ("0", "0"),
        ("-0", "0"),
        ("-1024Ki", "-1Mi"),
        ("7Ei", "7Ei"),
        ("1000000000n", "1"),
        ("1M", "1M"),
        ("1000k", "1M"),
    ],
)
def test_the_canonical_form_is_that_of_kubernetes(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


@given(st.integers(-(10**9), 10**9), st.sampled_from(SUFFIXES))
def test_the_canonical_form_means_the_same_and_is_final(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    try:
        milli = quantity.parse(text)
    except ValueError:
        return  # too large
    canonical = quantity.canonical(text)
    assert quantity.parse(canonical) == milli
    assert quantity.canonical(canonical) == canonical


@given(st.integers(-quantity.VALUE_MAX, quantity.VALUE_MAX))
def test_every_form_of_a_number_of_thousandths_reads_back(milli: int) -> None:
    for form in (quantity.format_decimal, quantity.format_binary, quantity.format_exponent):
        assert quantity.parse(form(milli)) == milli


@given(st.text(max_size=80))
def test_no_text_makes_parsing_fail_in_another_way(text: str) -> None:
    try:
        milli = quantity.parse(text)
    except ValueError:
        return
    assert quantity.parse(quantity.canonical(text)) == milli


def test_a_resource_list_is_read_as_a_whole() -> None:
    assert quantity.parse_all({"cpu": "500m", "memory": "1Ki", "gpu": 1}) == {
        "cpu": 500,
        "memory": 1_024_000,
        "gpu": 1_000,
    }
