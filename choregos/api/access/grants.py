"""Who holds which rules: an index of the stored roles and bindings, by subject.

Invariant: after every change of the store it agrees with what is stored, so a decision costs a look-up for the user and
one for each of the user's groups, however many bindings there are. What rules mean is `security.rbac`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from choregos.resources.kind import Object
from choregos.resources.registry import KINDS, group_versions
from choregos.security import rbac
from choregos.security.pki import ADMINISTRATORS
from choregos.security.rbac import Attributes, RoleKey, Rule, SubjectKey, User
from choregos.store.resources import Change, ResourceStore
from choregos.store.watch import ChangeType

log = logging.getLogger(__name__)

_ROLES = ("roles", "clusterroles")
_BINDINGS = ("rolebindings", "clusterrolebindings")

EVERYTHING = rbac.rules(
    [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]}]
)
"""What administrators may do, whatever is stored."""

_SERVED_TWICE: Mapping[tuple[str, str], tuple[str, ...]] = {
    (group, kind.plural): tuple(other for other, _ in group_versions(kind) if other != group)
    for kind in KINDS
    if kind.aliases
    for group, _ in group_versions(kind)
}
"""(group, resource) → the other groups that serve the same objects: a rule about one place is about them all."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Attributes: reason: which binding allows it; empty if none does."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Grant:
    """One subject's share of one binding; `scope` is its namespace, empty for a ClusterRoleBinding."""

    scope: str
    binding: str
    role: RoleKey


class Grants:
    """All grants of one store, kept up to date until `close`."""

    def __init__(self, resources: ResourceStore) -> None:
        self._roles: dict[RoleKey, tuple[Rule, ...]] = {}
        # namespace (empty: everywhere) → subject → name of the binding → what it grants
        self._grants: dict[str, dict[SubjectKey, dict[str, _Grant]]] = {}
        for resource in _ROLES:
            for role in resources.list(resource).items:
                self._roles[_key(role)] = rbac.rules(role.get("rules"))
        for resource in _BINDINGS:
            for binding in resources.list(resource).items:
                self._add(binding)
        self._end: Callable[[], None] | None = resources.on_change(self._changed)

    def close(self) -> None:
        if self._end is not None:
            self._end()
            self._end = None

    def decide(self, user: User, wanted: Attributes) -> Decision:
        """Whether `user` may do it, and by whose leave."""
        if ADMINISTRATORS in user.groups:
            return Decision(True, f"{ADMINISTRATORS} may do everything")
        groups = (wanted.group, *_SERVED_TWICE.get((wanted.group, wanted.resource), ()))
        places = [wanted] if len(groups) == 1 else [replace(wanted, group=group) for group in groups]
        for subject, grant, held in self._held(user, wanted.namespace):
            if any(rule.allows(place) for rule in held for place in places):
                return Decision(True, _reason(subject, grant))
        return Decision(False)

    def rules_of(self, user: User, namespace: str) -> list[Rule]:
        """Every rule that the user holds in a namespace; without one, those that hold everywhere."""
        found = dict.fromkeys(EVERYTHING if ADMINISTRATORS in user.groups else ())
        for _, _, held in self._held(user, namespace):
            found.update(dict.fromkeys(held))
        return list(found)

    def rules_in(self, role: RoleKey) -> Sequence[Rule] | None:
        """The rules of a role; None if there is no such role."""
        return self._roles.get(role)

    def _held(self, user: User, namespace: str) -> Iterator[tuple[SubjectKey, _Grant, tuple[Rule, ...]]]:
        for scope in ("", namespace) if namespace else ("",):
            by_subject = self._grants.get(scope)
            if by_subject is None:
                continue
            for subject in rbac.keys_of(user):
                for grant in by_subject.get(subject, {}).values():
                    yield subject, grant, self._roles.get(grant.role, ())

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            gone = change.type is ChangeType.DELETED
            if change.resource in _ROLES:
                if gone:
                    self._roles.pop(_key(change.object), None)
                else:
                    self._roles[_key(change.object)] = rbac.rules(change.object.get("rules"))
            elif change.resource in _BINDINGS:
                if change.previous is not None:
                    self._remove(change.previous)
                if not gone:
                    self._add(change.object)

    def _add(self, binding: Object) -> None:
        namespace, name = _key(binding)
        role = rbac.role_key(binding)
        if role is None:
            return
        by_subject = self._grants.setdefault(namespace, {})
        for subject in rbac.subject_keys(binding):
            by_subject.setdefault(subject, {})[name] = _Grant(namespace, name, role)

    def _remove(self, binding: Object) -> None:
        namespace, name = _key(binding)
        by_subject = self._grants.get(namespace, {})
        for subject in rbac.subject_keys(binding):
            grants = by_subject.get(subject, {})
            grants.pop(name, None)
            if not grants:
                by_subject.pop(subject, None)
        if not by_subject:
            self._grants.pop(namespace, None)


def _key(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _reason(subject: SubjectKey, grant: _Grant) -> str:
    """In Kubernetes' words."""
    binding = f'RoleBinding "{grant.binding}/{grant.scope}"' if grant.scope else f'ClusterRoleBinding "{grant.binding}"'
    namespace, role = grant.role
    kind = "Role" if namespace else "ClusterRole"
    return f'RBAC: allowed by {binding} of {kind} "{role}" to {subject[0]} "{subject[1]}"'
