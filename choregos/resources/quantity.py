"""Kubernetes quantities (`500m`, `4Gi`, `1e3`), exactly: as whole thousandths, never as floats.

Owns the text forms and their canonical one, after `k8s.io/apimachinery/pkg/api/resource`. Invariant: what `parse`
returns is what was written; a value finer than a thousandth or beyond 2**63 - 1 is refused, not rounded.
Sums and comparisons are those of `int`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

Milli = int
"""A quantity in thousandths of its unit: `500m` of cpu is 500, `1Ki` of memory is 1,024,000."""

VALUE_MAX = 2**63 - 1

_QUANTITY = re.compile(r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)((?:[eE][+-]?[0-9]{1,3})|[KMGTPE]i|[numkMGTPE])?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_BINARY_SUFFIX = ("", *_BINARY)
_LENGTH_MAX = 64


def parse(value: str | float) -> Milli:
    """The quantity in thousandths.

    Args:
        value: text as in a manifest, or a number, which is read as it prints: `0.1` is a hundred thousandths.

    Raises:
        ValueError: it is no quantity, finer than a thousandth, or too large; the message says which.
    """
    return _parse(_text(value))[0]


def parse_all(quantities: Mapping[str, str | float]) -> dict[str, Milli]:
    """A resource list such as `{"cpu": "500m", "memory": "4Gi"}` in thousandths."""
    return {name: parse(value) for name, value in quantities.items()}


def canonical(value: str | float) -> str:
    """The canonical text: the largest suffix of the same family that leaves no fraction; `1024Mi` is `1Gi`.

    Raises:
        ValueError: as `parse`.
    """
    milli, family = _parse(_text(value))
    if family == "exponent":
        return format_exponent(milli)
    return format_binary(milli) if family == "binary" else format_decimal(milli)


def format_decimal(milli: Milli) -> str:
    """`500m`, `2`, `16k`: powers of a thousand; for cpu, gpu and counts."""
    mantissa, exponent = _thousands(milli)
    return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"


def format_exponent(milli: Milli) -> str:
    """`500e-3`, `2`, `16e3`."""
    mantissa, exponent = _thousands(milli)
    return f"{mantissa}e{exponent}" if exponent else str(mantissa)


def format_binary(milli: Milli) -> str:
    """`64Mi`, `4Gi`: powers of 1,024; for memory. Below 1 Ki, or with a fraction of a byte, decimal."""
    whole, fraction = divmod(abs(milli), 1000)
    if fraction or whole < 1024:
        return format_decimal(milli)
    power = 0
    while whole % 1024 == 0 and power < len(_BINARY_SUFFIX) - 1:
        whole //= 1024
        power += 1
    return f"{'-' if milli < 0 else ''}{whole}{_BINARY_SUFFIX[power]}"


def _thousands(milli: Milli) -> tuple[int, int]:
    """(mantissa, exponent) with the largest exponent that is a multiple of three and leaves no fraction."""
    exponent = -3
    while milli and milli % 1000 == 0 and exponent < 18:
        milli //= 1000
        exponent += 3
    return milli, exponent if milli else 0


def _text(value: str | float) -> str:
    if isinstance(value, bool):
        raise ValueError("expected a quantity, such as 500m or 4Gi, found a boolean")  # noqa: TRY004 # a value's fault
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"expected a quantity, found {value}")
        return f"{Decimal(repr(value)):f}"
    return str(value)


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Milli, str]:
    match = _QUANTITY.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        raise ValueError(f"expected a quantity, such as 500m or 4Gi, found {text[:_LENGTH_MAX]!r}")
    sign, digits, suffix = match[1], match[2], match[3] or ""
    if suffix in _BINARY:
        family, scale = "binary", Fraction(1024 ** _BINARY[suffix])
    elif suffix in _DECIMAL:
        family, scale = "decimal", Fraction(10) ** _DECIMAL[suffix]
    else:
        family, scale = "exponent", Fraction(10) ** int(suffix[1:])
    milli = Fraction(digits) * scale * 1000
    if milli.denominator != 1:
        raise ValueError(f"{text!r} is finer than a thousandth (1m)")
    if milli > VALUE_MAX * 1000:
        raise ValueError(f"{text!r} is larger than 2^63-1")
    return (-milli.numerator if sign == "-" else milli.numerator), family
