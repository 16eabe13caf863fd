"""Templates: one digest per content."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from choregos.resources import templates

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_the_order_of_keys_does_not_matter(spec: dict[str, Any]) -> None:
    backwards = dict(reversed(spec.items()))
    assert templates.canonical_digest(spec) == templates.canonical_digest(backwards)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_canonical_json_reads_back(spec: dict[str, Any]) -> None:
    digest, encoded = templates.canonical_digest(spec)
    assert json.loads(encoded) == spec
    assert len(digest) == templates.DIGEST_LENGTH
    assert digest == templates.digest(spec)


def test_the_digest_stays_the_same_from_version_to_version() -> None:
    assert (
        templates.canonical_json({"name": "é", "a": [1, {"c": 2, "b": None}]})
        == '{"a":[1,{"b":null,"c":2}],"name":"é"}'.encode()
    )
    assert templates.digest({"name": "conversation"}) == "91971f3542afa276"


def test_a_set_selects_its_agents_by_its_name() -> None:
    assert templates.set_selector("support-conversation") == "choregos.dev/set=support-conversation"
