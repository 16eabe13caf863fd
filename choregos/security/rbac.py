"""May this user do this? Rules, who they are bound to, and what covers what, as Kubernetes' RBAC means them. Pure.

Owns the meaning of a rule and of a binding's subject; it holds nothing and looks nothing up, so whoever asks brings the
rules. Invariant: what no rule allows is refused; there are no rules that refuse. Follows "Using RBAC Authorization" of
the Kubernetes documentation and the semantics of its `rbac.authorization.k8s.io/v1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ALL = "*"
GROUP = "rbac.authorization.k8s.io"

AUTHENTICATED = "system:authenticated"
"""The group of everybody who is known."""

SERVICE_ACCOUNTS = "system:serviceaccounts"
"""The group of all service accounts; with `:<namespace>` behind it, of those of one namespace."""

_ACCOUNT_PREFIX = "system:serviceaccount:"

COMBINATIONS_MAX = 10_000
"""Combinations of verb, group and resource in one rule that `uncovered` takes apart; a rule with more is not covered
unless a single other one covers it whole."""


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.

    Attributes:
        uid: of the account, if it has one.
        extra: further facts that the authenticator found, as Kubernetes' `UserInfo.extra`.
    """

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """As `authentication.k8s.io/v1 UserInfo`."""
        shown: dict[str, Any] = {"username": self.name}
        if self.uid:
            shown["uid"] = self.uid
        if self.groups:
            shown["groups"] = list(self.groups)
        if self.extra:
            shown["extra"] = {key: list(values) for key, values in self.extra.items()}
        return shown


def account_user(namespace: str, name: str) -> str:
    """The user name of a service account."""
    return f"{_ACCOUNT_PREFIX}{namespace}:{name}"


def account_groups(namespace: str) -> tuple[str, ...]:
    """The groups of every service account of a namespace."""
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")


def account_of(user: str) -> tuple[str, str] | None:
    """(namespace, name) of the service account whose user name this is."""
    namespace, colon, name = user.removeprefix(_ACCOUNT_PREFIX).partition(":")
    if not user.startswith(_ACCOUNT_PREFIX) or not colon or not namespace or not name or ":" in name:
        return None
    return namespace, name


@dataclass(frozen=True, slots=True)
class Attributes:
    """What somebody wants to do.

    Attributes:
        verb: `get`, `list`, `watch`, `create`, …; for a path that is no resource the HTTP method in lower case.
        path: of what is no resource; empty for a resource.
        namespace: empty for what has none, and for all namespaces together.
        name: empty for a collection, and for an object whose name is not known yet.
    """

    verb: str
    path: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def combined(self) -> str:
        """`pods`, or `pods/log`: as rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class Rule:
    """One `PolicyRule`: allows each of its verbs on each of its resources, or on each of its paths."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()

    def allows(self, wanted: Attributes) -> bool:
        if wanted.verb not in self.verbs and ALL not in self.verbs:
            return False
        if wanted.path:
            return _path_matches(self.paths, wanted.path)
        return (
            (wanted.group in self.groups or ALL in self.groups)
            and _resource_matches(self.resources, wanted.combined)
            and (not self.names or wanted.name in self.names)
        )

    def document(self) -> dict[str, Any]:
        """As a `PolicyRule`, `ResourceRule` or `NonResourceRule`."""
        parts = (
            ("verbs", self.verbs),
            ("apiGroups", self.groups),
            ("resources", self.resources),
            ("resourceNames", self.names),
            ("nonResourceURLs", self.paths),
        )
        return {key: sorted(values) for key, values in parts if values or key == "verbs"}


def _resource_matches(resources: frozenset[str], wanted: str) -> bool:
    if wanted in resources or ALL in resources:
        return True
    _, slash, subresource = wanted.partition("/")
    return bool(slash) and f"{ALL}/{subresource}" in resources


def _path_matches(paths: frozenset[str], wanted: str) -> bool:
    if wanted in paths or ALL in paths:
        return True
    return any(path.endswith(ALL) and wanted.startswith(path.rstrip(ALL)) for path in paths)


def rules(documents: Any) -> tuple[Rule, ...]:
    """The rules of a role as it is stored; what is not in the form of a rule allows nothing and is left out."""
    found = (_rule(document) for document in _entries(documents) if isinstance(document, dict))
    return tuple(rule for rule in found if rule.verbs)


def _rule(document: Mapping[str, Any]) -> Rule:
    return Rule(
        verbs=_words(document.get("verbs")),
        groups=_words(document.get("apiGroups")),
        resources=_words(document.get("resources")),
        names=_words(document.get("resourceNames")),
        paths=_words(document.get("nonResourceURLs")),
    )


def _words(value: Any) -> frozenset[str]:
    return frozenset(word for word in _entries(value) if isinstance(word, str))


def _entries(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


USER, PEOPLE = "User", "Group"

SubjectKey = tuple[str, str]
"""(`User` or `Group`, name); a service account is the user of its name."""

RoleKey = tuple[str, str]
"""(namespace, name) of a Role; the namespace is empty for a ClusterRole."""


def subject_keys(binding: Mapping[str, Any]) -> Iterator[SubjectKey]:
    """Whom a RoleBinding or ClusterRoleBinding names."""
    for subject in _entries(binding.get("subjects")):
        if not isinstance(subject, dict) or not isinstance(subject.get("name"), str):
            continue
        kind, name = subject.get("kind"), subject["name"]
        if kind in (USER, PEOPLE):
            yield str(kind), name
        elif kind == "ServiceAccount":
            namespace = subject.get("namespace") or (binding.get("metadata") or {}).get("namespace")
            if namespace:
                yield USER, account_user(namespace, name)


def keys_of(user: User) -> Iterator[SubjectKey]:
    """The subjects that a binding may name so that it speaks of this user."""
    yield USER, user.name
    for group in user.groups:
        yield PEOPLE, group


def role_key(binding: Mapping[str, Any]) -> RoleKey | None:
    """The role a binding grants; None if it names none."""
    reference = binding.get("roleRef")
    if not isinstance(reference, dict) or not isinstance(reference.get("name"), str):
        return None
    if reference.get("kind") == "ClusterRole":
        return "", reference["name"]
    namespace = (binding.get("metadata") or {}).get("namespace")
    return (namespace, reference["name"]) if reference.get("kind") == "Role" and namespace else None


def uncovered(held: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Those of `wanted` that give more than all of `held` together: what an escalation would be."""
    return [rule for rule in wanted if not _covered(held, rule)]


def _covered(held: Sequence[Rule], wanted: Rule) -> bool:
    if any(_covers_whole(rule, wanted) for rule in held):
        return True
    if len(wanted.verbs) * max(len(wanted.groups) * len(wanted.resources), len(wanted.paths)) > COMBINATIONS_MAX:
        return False
    # Taken apart step by step, so that what cannot help any more is not looked at again.
    for verb in wanted.verbs:
        by_verb = [rule for rule in held if verb in rule.verbs or ALL in rule.verbs]
        if not all(any(_path_covers(rule.paths, path) for rule in by_verb) for path in wanted.paths):
            return False
        for group in wanted.groups:
            by_group = [rule for rule in by_verb if group in rule.groups or ALL in rule.groups]
            for resource in wanted.resources:
                by_resource = [rule for rule in by_group if _resource_matches(rule.resources, resource)]
                if not _names_covered(by_resource, wanted.names):
                    return False
    return True


def _covers_whole(rule: Rule, wanted: Rule) -> bool:
    return (
        (ALL in rule.verbs or wanted.verbs <= rule.verbs)
        and (ALL in rule.groups or wanted.groups <= rule.groups)
        and (ALL in rule.resources or wanted.resources <= rule.resources)
        and (not rule.names or (bool(wanted.names) and wanted.names <= rule.names))
        and (ALL in rule.paths or wanted.paths <= rule.paths)
    )


def _names_covered(held: Sequence[Rule], wanted: frozenset[str]) -> bool:
    if any(not rule.names for rule in held):
        return True
    return bool(wanted) and wanted <= frozenset().union(*(rule.names for rule in held))


def _path_covers(held: frozenset[str], wanted: str) -> bool:
    """Whether the paths in `held` take in all that `wanted`, a pattern, does."""
    if wanted in held or ALL in held:
        return True
    return any(path.endswith(ALL) and wanted.startswith(path.rstrip(ALL)) for path in held)


def compact(found: Iterable[Rule]) -> list[Rule]:
    """The same permissions in fewer rules: those that differ in their verbs alone become one. Keeps the order."""
    merged: dict[tuple[frozenset[str], ...], frozenset[str]] = {}
    for rule in found:
        key = (rule.groups, rule.resources, rule.names, rule.paths)
        merged[key] = merged.get(key, frozenset()) | rule.verbs
    return [Rule(verbs, *key) for key, verbs in merged.items()]
