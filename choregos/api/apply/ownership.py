"""Who owns which field of an object, and what a write does to that.

The rules are those of Kubernetes' field managers. Whoever creates or updates owns what he has changed, and takes it
from others. Whoever applies owns what his configuration names: to change what others own is a conflict, unless he
forces it; what he named before and names no more goes, unless somebody else owns it. Entries are kept apart by manager,
operation, subresource and, for updates, API version.

Invariant: an object that came into being without an author (a controller wrote it) has no owners, and an update does
not begin to track it; the first to apply finds everything owned by `before-first-apply`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from choregos.api.apply import fieldset
from choregos.api.apply.fieldset import EMPTY, FieldSet, difference, intersection, union
from choregos.api.apply.merge import added, removed, with_named
from choregos.api.rules.status import Refusal
from choregos.foundation.errors import FieldError
from choregos.resources.kind import Kind, Object
from choregos.resources.schema import structure

APPLY, UPDATE = "Apply", "Update"
BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT_CHANGES = "ancient-changes"
UPDATERS_MAX = 10
"""Of more entries of updates than this the oldest become one."""
OWNERS_MAX = 100
"""Each of them is compared with what a write changes, so more would make every write of an object slow."""

_SERVERS = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "selfLink",
    "managedFields",
)
_NOBODYS = fieldset.of(
    ("f:apiVersion",), ("f:kind",), ("f:metadata",), *(("f:metadata", f"f:{name}") for name in _SERVERS)
)

Identity = tuple[str, str, str, str]
"""Manager, operation, subresource, and of updates the API version: what of an entry stays from write to write."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one author owns.

    Attributes:
        operation: `Apply` or `Update`.
        api_version: under which the object was written.
        subresource: through which it was written; empty for the object itself.
        time: of the last change, RFC 3339 in whole seconds; may be empty.
    """

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: FieldSet

    @property
    def identity(self) -> Identity:
        return self.manager, self.operation, self.subresource, self.api_version if self.operation == UPDATE else ""


Owners = Mapping[Identity, Entry]
NOBODY: Owners = {}


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes an object of a kind, and when; the attributes are those of `Entry`."""

    kind: Kind
    manager: str
    api_version: str
    subresource: str
    time: str

    def entry(self, operation: str, fields: FieldSet) -> Entry:
        return Entry(self.manager, operation, self.api_version, self.subresource, self.time, fields)

    def reached(self, fields: FieldSet) -> FieldSet:
        """Of `fields` what can be owned and is written through the subresource: the status, or all but the status."""
        status = self.subresource == "status"
        both = not status and not self.kind.has_status
        reached = {step: node for step, node in fields.items() if both or (step == "f:status") is status}
        return difference(reached, _NOBODYS)

    def differences(self, old: Object, new: Object) -> tuple[FieldSet, FieldSet]:
        """(added or changed, removed)."""
        node = structure(self.kind)
        changed, gone = added(node, old, new, changed=True), added(node, new, old, changed=False)
        return self.reached(changed), self.reached(gone)


def updated(author: Author, owners: Owners, old: Object, new: Object) -> Owners:
    """The owners after `author` has written `new` over `old`; for a creation `old` is empty."""
    changed, gone = author.differences(old, new)
    if (old and not owners) or not (changed or gone):
        return owners
    entry = author.entry(UPDATE, changed)
    result = _without(owners, union(changed, gone))
    if entry.fields:
        before = result.get(entry.identity)
        fields = entry.fields if before is None else union(before.fields, entry.fields)
        result[entry.identity] = replace(entry, fields=fields)
    return _capped(result)


def before_first_apply(author: Author, old: Object) -> Owners:
    """The owners of an object that has none, when somebody applies to it."""
    return updated(replace(author, manager=BEFORE_FIRST_APPLY), NOBODY, {}, old)


def pruned(author: Author, owners: Owners, merged: Object, fields: FieldSet) -> Object:
    """`merged` without what the author applied before, does not apply now (`fields`), and nobody else owns."""
    node = structure(author.kind)
    last = owners.get(author.entry(APPLY, EMPTY).identity)
    lost = EMPTY if last is None else difference(last.fields, fields)
    if last is not None and lost:
        lost = difference(with_named(node, last.fields), with_named(node, fields))
    for entry in owners.values():
        if lost and entry is not last:
            lost = difference(lost, with_named(node, entry.fields))
    result: Object = removed(node, merged, lost)
    return result


def applied(
    author: Author, owners: Owners, fields: FieldSet, *, old: Object, new: Object
) -> tuple[Owners, dict[Identity, FieldSet]]:
    """The owners after `author` has applied a configuration of these fields, which made `new` of `old`; and what he has
    taken from whom by that, which is a conflict unless he may.

    Raises:
        Refusal: 422, as many as can own fields of one object do.
    """
    changed, gone = author.differences(old, new)
    entry = author.entry(APPLY, author.reached(fields))
    last = owners.get(entry.identity)
    if last is None and len(owners) >= OWNERS_MAX:
        raise too_many()
    if last is not None and not changed and not gone and last == replace(entry, time=last.time):
        entry = last  # to say the same again is no news
    others = {identity: other for identity, other in owners.items() if identity != entry.identity}
    taken = {identity: intersection(other.fields, changed) for identity, other in others.items()}
    result = _without(others, union(changed, gone))
    if entry.fields:
        result[entry.identity] = entry
    return result, {identity: part for identity, part in taken.items() if part}


def _without(owners: Owners, fields: FieldSet) -> dict[Identity, Entry]:
    if not fields:
        return dict(owners)
    rest = {identity: difference(entry.fields, fields) for identity, entry in owners.items()}
    return {identity: replace(owners[identity], fields=kept) for identity, kept in rest.items() if kept}


def _capped(owners: dict[Identity, Entry]) -> dict[Identity, Entry]:
    """At most `UPDATERS_MAX` entries of updates; the oldest of an API version become one."""
    updaters = [entry for entry in owners.values() if entry.operation == UPDATE]
    excess = len(updaters) - UPDATERS_MAX
    oldest: dict[str, Entry] = {}
    for entry in sorted(updaters, key=lambda each: (each.time, each.identity)) if excess > 0 else ():
        version = entry.api_version
        if excess > 0 and version in oldest:
            bucket = replace(entry, manager=ANCIENT_CHANGES, subresource="")
            parts = [owners.pop(each.identity, bucket) for each in (oldest[version], entry, bucket)]
            bucket = replace(bucket, fields=union(parts[0].fields, union(parts[1].fields, parts[2].fields)))
            owners[bucket.identity] = bucket
            excess -= 1
            oldest[version] = bucket
        else:
            oldest[version] = entry
    return owners


def too_many() -> Refusal:
    message = f"the fields of one object may have {OWNERS_MAX} owners"
    cause = FieldError("metadata.managedFields", message, "FieldValueTooMany")
    return Refusal(422, "Invalid", message, causes=(cause,))


def conflict(taken: Mapping[Identity, FieldSet]) -> Refusal:
    """The refusal of an application that would have taken these fields from their owners, in Kubernetes' words."""
    found = {_shown(owner): [*map(fieldset.text, fieldset.paths(taken[owner]))] for owner in sorted(taken)}
    causes = tuple(
        FieldError(path, f"conflict with {owner}", "FieldManagerConflict")
        for owner, paths in found.items()
        for path in paths
    )
    if len(causes) == 1:
        message = f"1 conflict: {causes[0].message}: {causes[0].path}"
    else:
        lines = (
            line
            for owner, paths in found.items()
            for line in (f"conflicts with {owner}:", *(f"- {path}" for path in paths))
        )
        message = f"{len(causes)} conflicts: " + "\n".join(lines)
    return Refusal(409, "Conflict", f"Apply failed with {message}", causes=causes)


def _shown(identity: Identity) -> str:
    manager, _, subresource, version = identity
    within = f' with subresource "{subresource}"' if subresource else ""
    return f'"{manager}"{within}' + (f" using {version}" if version else "")
