from __future__ import annotations

from typing import Any

import msgspec
import pytest

from choregos.api.apply import managed_fields
from choregos.api.apply.edits import Apply, Update
from choregos.api.apply.ownership import OWNERS_MAX, Author
from choregos.api.rules.status import Refusal
from choregos.resources.kinds.core.configmap import CONFIGMAP


def author(manager: str) -> Author:
    return Author(CONFIGMAP, manager, "v1", "", "2026-11-23T06:00:00Z")


def applied(manager: str, old: Any, data: dict[str, str]) -> Any:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}
    edit = Apply(author(manager), config, force=False)
    body = edit.change(old) if old else config
    return edit.owned(old, body, {**body, "metadata": {"name": "m"}})


def with_claims(old: Any, entries: list[Any]) -> Any:
    def claiming(document: Any) -> Any:
        return {**document, "metadata": {**document["metadata"], "managedFields": entries}}

    edit = Update(author("claims"), claiming)
    return edit.owned(old, edit.change(old), {**old, "metadata": {"name": "m"}})


def test_only_short_texts_are_remembered_as_owners() -> None:
    short = applied("a", {}, {"k": "1"})
    assert managed_fields.owners_of(CONFIGMAP, short) is managed_fields.owners_of(CONFIGMAP, short)
    long = applied("a", {}, {f"k{number}": "1" for number in range(1000)})
    assert managed_fields.owners_of(CONFIGMAP, long) is not managed_fields.owners_of(CONFIGMAP, long)


def test_an_object_has_as_many_owners_as_anybody_needs() -> None:
    first = applied("a", {}, {"k": "1"})
    entry = msgspec.json.decode(first["metadata"]["managedFields"])[0]
    many = [{**entry, "manager": f"m{number}"} for number in range(OWNERS_MAX)]
    with pytest.raises(Refusal, match="may have 100 owners") as caught:
        with_claims(first, [entry, *many])
    assert caught.value.code == 422
    full = with_claims(first, many)
    assert len(managed_fields.owners_of(CONFIGMAP, full)) == OWNERS_MAX
    applied("m7", full, {"k": "1", "more": "2"})
    with pytest.raises(Refusal, match="may have 100 owners") as caught:
        applied("one-more", full, {"k": "1"})
    assert [cause.path for cause in caught.value.causes] == ["metadata.managedFields"]
