"""The ways to write an object through the API, each as two steps: what becomes of it, and who owns it then.

Between the two the API server validates, so what is compared is in its normal form: `1024Mi` over `1Gi` is no change
and no conflict. An edit may be made again, from a newer state, when somebody else was faster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from choregos.api.apply import managed_fields, ownership
from choregos.api.apply.fieldset import EMPTY, FieldSet, difference
from choregos.api.apply.merge import Cleaning, added, field_set, merged
from choregos.api.apply.ownership import NOBODY, Author, Owners
from choregos.api.rules.status import bad_request
from choregos.foundation.errors import Invalid
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.schema import structure

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation of client-side apply."""

KUBECTL = "kubectl"
"""The manager as which kubectl applies, for whom that annotation is kept true."""


class Edit(Protocol):
    def change(self, old: Object) -> Any:
        """What the client wants instead of the stored object `old`, not validated yet."""
        ...

    def owned(self, old: Object, body: Any, new: Object) -> Object:
        """`new`, which `change` and validation have made of `old`, as it is to be stored.

        Args:
            body: what `change` returned.

        Raises:
            Refusal: 409, others own what it would change.
        """
        ...


class Update:
    """PUT and all patches but those that apply: `change` computes the whole object.

    Attributes:
        author: None to leave the object without owners.
    """

    def __init__(self, author: Author | None, change: Callable[[Object], Any]) -> None:
        self.author = author
        self.change = change

    def owned(self, old: Object, body: Any, new: Object) -> Object:
        author = self.author
        if author is None:
            return managed_fields.with_owners(new, NOBODY)
        owners = managed_fields.claimed(author.kind, old, {} if author.subresource else body)
        return managed_fields.with_owners(new, ownership.updated(author, owners, old, new))


def created(author: Author, body: ReadOnlyObject, new: Object) -> Object:
    """`new`, made of the body of a POST, as it is to be stored. What the server adds to the metadata is nobody's."""
    said = body.get("metadata") or {}
    metadata = {name: value for name, value in new["metadata"].items() if name in said}
    owners = ownership.updated(author, NOBODY, {}, {**new, "metadata": metadata})
    return managed_fields.with_owners(new, owners)


class Apply:
    """Server-side apply of a configuration.

    Attributes:
        unknown_fields: paths of fields of the configuration that the kind does not know; they are left out.

    Raises:
        Refusal: 400, it is no configuration of this kind.
        Invalid: elements of its lists cannot be told apart.
    """

    def __init__(self, author: Author, config: Object, *, force: bool) -> None:
        _check_type(author, config)
        cleaning = Cleaning()
        self._author = author
        self._force = force
        self._given = config
        self._node = structure(author.kind)
        self.config: Object = cleaning.clean(self._node, _through(author, config))
        if cleaning.faults:
            raise Invalid(author.kind.kind, tuple(cleaning.faults))
        self.unknown_fields = tuple(cleaning.unknown)
        self._fields: FieldSet = field_set(self._node, self.config)

    def change(self, old: Object) -> Any:
        combined = merged(self._node, old, self.config)
        return ownership.pruned(self._author, self._owners(old), combined, self._fields)

    def owned(self, old: Object, body: Any, new: Object) -> Object:
        owners = self._owners(old) if old else NOBODY
        owners, taken = ownership.applied(self._author, owners, self._fields, old=old, new=new)
        if taken and not self._force:
            allowed = self._last_applied(old)
            rest = {identity: difference(fields, allowed) for identity, fields in taken.items()}
            if any(rest.values()):
                raise ownership.conflict({identity: fields for identity, fields in rest.items() if fields})
        return managed_fields.with_owners(self._annotated(new), owners)

    def _owners(self, old: Object) -> Owners:
        return managed_fields.owners_of(self._author.kind, old) or ownership.before_first_apply(self._author, old)

    def _last_applied(self, old: Object) -> FieldSet:
        """What kubectl may take, because it was itself that wrote it, by client-side apply."""
        text = (old["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        if self._author.manager != KUBECTL or not text:
            return EMPTY
        try:
            last = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return EMPTY
        if not isinstance(last, dict) or last.get("apiVersion") != self._author.api_version:
            return EMPTY
        fields = difference(field_set(self._node, last), added(self._node, last, old, changed=True))
        return difference(fields, added(self._node, old, last, changed=True))

    def _annotated(self, new: Object) -> Object:
        metadata = new["metadata"]
        annotations = metadata.get("annotations") or {}
        if self._author.manager != KUBECTL or not annotations.get(LAST_APPLIED):
            return new
        given = self._given["metadata"]
        kept = {name: text for name, text in (given.get("annotations") or {}).items() if name != LAST_APPLIED}
        given = {**self._given, "metadata": {**given, "annotations": kept}}
        last = json.dumps(given, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
        return {**new, "metadata": {**metadata, "annotations": {**annotations, LAST_APPLIED: last}}}


def _check_type(author: Author, config: Object) -> None:
    version, name, expected = config.get("apiVersion"), config.get("kind"), author.kind.kind
    if version != author.api_version or name != expected:
        message = f"invalid object type: {version}, Kind={name}, expected {author.api_version}, Kind={expected}"
        raise bad_request(message)
    if not isinstance(config.get("metadata"), dict):
        raise bad_request("a configuration to apply needs metadata")
    if config["metadata"].get(managed_fields.NAME) is not None:
        raise bad_request("metadata.managedFields must be nil")


def _through(author: Author, config: Object) -> Object:
    """What of a configuration can be written through the subresource."""
    if author.subresource == "status":
        return {name: part for name, part in config.items() if name in ("apiVersion", "kind", "metadata", "status")}
    return {name: part for name, part in config.items() if name != "status" or not author.kind.has_status}
