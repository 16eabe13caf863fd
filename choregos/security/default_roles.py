"""The roles and bindings that are there from the start, and how they are kept right. Pure.

As Kubernetes has them: `cluster-admin`, `admin`, `edit` and `view` for people, `system:discovery` and
`system:basic-user` for everybody who is known. What `view` and `edit` allow follows from the kinds, so a new kind is in
them without a line here. Invariant: what is missing of a default is added, what somebody added to one stays; the
annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` leaves it to its owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from choregos.resources import selectors
from choregos.resources.kind import Kind, Object, ReadOnlyObject
from choregos.resources.kinds.rbac.binding import CLUSTERROLEBINDING
from choregos.resources.kinds.rbac.role import CLUSTERROLE, GROUP
from choregos.resources.registry import KINDS
from choregos.resources.validation import validate
from choregos.security.pki import ADMINISTRATORS
from choregos.security.rbac import ALL, AUTHENTICATED, rules, uncovered

ROLES, BINDINGS = CLUSTERROLE.plural, CLUSTERROLEBINDING.plural

AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
AGGREGATE_TO = "rbac.authorization.k8s.io/aggregate-to-"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}

_READ = ("get", "list", "watch")
_WRITE = ("create", "update", "patch", "delete", "deletecollection")
_NOT_FOR_VIEWERS = frozenset({"secrets"})
_NOT_FOR_EDITORS = frozenset({"resourcequotas"})
"""What bounds a namespace is no business of those who work in it, but to read."""
_FOR_ADMINS = frozenset({GROUP, "authorization.k8s.io", "authentication.k8s.io"})
"""Groups that say who may do what: whoever may edit may not therefore hand that on."""


def defaults() -> Iterator[tuple[str, Object]]:
    """(resource, object) of each, without uid; a role comes before those that are made of it, bindings come last."""
    yield ROLES, _role("cluster-admin", _rule((ALL,), (ALL,), (ALL,)), _paths((ALL,), (ALL,)))
    yield ROLES, _role("system:discovery", _paths(("get",), _DISCOVERY))
    yield ROLES, _role("system:public-info-viewer", _paths(("get",), _PUBLIC))
    yield ROLES, _role("system:basic-user", *_asking_about_oneself())
    yield ROLES, _role("system:aggregate-to-view", *_viewing(), part_of="view")
    yield ROLES, _role("system:aggregate-to-edit", *_editing(), part_of="edit")
    yield ROLES, _role("system:aggregate-to-admin", *_administrating(), part_of="admin")
    yield ROLES, _made_of("view", part_of="edit")
    yield ROLES, _made_of("edit", part_of="admin")
    yield ROLES, _made_of("admin")
    yield BINDINGS, _binding("cluster-admin", ADMINISTRATORS)
    for name in ("system:discovery", "system:public-info-viewer", "system:basic-user"):
        yield BINDINGS, _binding(name, AUTHENTICATED)


_PUBLIC = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_DISCOVERY = ("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_PUBLIC)


def _asking_about_oneself() -> Iterator[Object]:
    about_me = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")
    yield _rule(("create",), ("authorization.k8s.io",), about_me)
    yield _rule(("create",), ("authentication.k8s.io",), ("selfsubjectreviews",))


def _viewing() -> Iterator[Object]:
    yield _rule(_READ, ("",), ("namespaces", "namespaces/status"))
    for kind in _contents():
        if kind.plural not in _NOT_FOR_VIEWERS:
            yield _of_kind(kind, _READ)


def _editing() -> Iterator[Object]:
    for kind in _contents():
        if kind.plural in _NOT_FOR_VIEWERS:
            yield _of_kind(kind, _READ)
        if kind.plural not in _NOT_FOR_EDITORS:
            yield _of_kind(kind, _WRITE)
    yield _rule(("impersonate",), ("",), ("serviceaccounts",))


def _administrating() -> Iterator[Object]:
    yield _rule((*_READ, *_WRITE), (GROUP,), ("roles", "rolebindings"))
    yield _rule(("create",), ("authorization.k8s.io",), ("localsubjectaccessreviews",))


def _contents() -> Iterator[Kind]:
    """Kinds of what people work with inside a namespace."""
    return (kind for kind in KINDS if kind.namespaced and kind.group not in _FOR_ADMINS)


def _of_kind(kind: Kind, verbs: Sequence[str]) -> Object:
    """Those of the verbs, all of reading or all of writing, that the kind and its subresources know."""
    reading = "get" in verbs
    # What runs something, as `exec` does, is no reading even where a GET begins it.
    named = [each for each in kind.subresources if set(each.verbs).issubset(_READ) is reading]
    usual = [name for name, has in (("status", kind.has_status and reading), ("scale", kind.scale)) if has]
    below = [f"{kind.plural}/{name}" for name in (*usual, *(each.name for each in named))]
    known = kind.verbs.union(*(each.verbs for each in named))
    return _rule((verb for verb in verbs if verb in known), (kind.group,), (kind.plural, *below))


def aggregated(role: Object, roles: Iterable[ReadOnlyObject]) -> Object:
    """`role` with the rules of those that its aggregationRule selects; the same object if it has just those, or no such
    rule."""
    if not role.get("aggregationRule"):
        return role
    chosen = [
        selectors.label_selector(selector) for selector in role["aggregationRule"].get("clusterRoleSelectors") or ()
    ]
    gathered: list[Object] = []
    for each in sorted(roles, key=lambda each: str(each["metadata"]["name"])):
        if each["metadata"]["name"] == role["metadata"]["name"]:
            continue
        if any(selector.matches(each["metadata"].get("labels") or {}) for selector in chosen):
            gathered.extend(rule for rule in each.get("rules") or () if rule not in gathered)
    return role if gathered == (role.get("rules") or []) else {**role, "rules": gathered}


def repaired(existing: Object, wanted: ReadOnlyObject) -> Object:
    """`existing` with what it lacks of the default `wanted`; the same object if that is nothing."""
    metadata = existing["metadata"]
    if (metadata.get("annotations") or {}).get(AUTO_UPDATE) == "false":
        return existing
    changed = {**existing, "metadata": {**metadata}}
    for part in ("labels", "annotations"):
        # What is there wins, but for a missing key: an owner may have changed a value.
        changed["metadata"][part] = {**wanted["metadata"].get(part, {}), **(metadata.get(part) or {})}
    if "aggregationRule" in wanted:
        changed["aggregationRule"] = _with_selectors(existing, wanted)
    elif "rules" in wanted:
        changed["rules"] = [*(existing.get("rules") or ()), *_missing_rules(existing, wanted)]
    if "subjects" in wanted:
        found = existing.get("subjects") or []
        changed["subjects"] = [*found, *(each for each in wanted["subjects"] if each not in found)]
    return existing if changed == existing else changed


def _with_selectors(existing: ReadOnlyObject, wanted: ReadOnlyObject) -> Object:
    found = (existing.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    missing = (each for each in wanted["aggregationRule"]["clusterRoleSelectors"] if each not in found)
    return {"clusterRoleSelectors": [*found, *missing]}


def _missing_rules(existing: ReadOnlyObject, wanted: ReadOnlyObject) -> Sequence[Object]:
    return [rule.document() for rule in uncovered(rules(existing.get("rules")), rules(wanted["rules"]))]


def _rule(verbs: Iterable[str], groups: Iterable[str], resources: Iterable[str]) -> Object:
    return {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}


def _paths(verbs: Iterable[str], paths: Iterable[str]) -> Object:
    return {"verbs": list(verbs), "nonResourceURLs": list(paths)}


def _metadata(name: str, part_of: str = "") -> Object:
    labels = _LABELS | ({f"{AGGREGATE_TO}{part_of}": "true"} if part_of else {})
    return {"name": name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}}


def _role(name: str, *documents: Object, part_of: str = "") -> Object:
    wanted = [document for document in documents if document["verbs"]]
    return validate(CLUSTERROLE, {"metadata": _metadata(name, part_of), "rules": wanted}).object


def _made_of(name: str, part_of: str = "") -> Object:
    selector = {"matchLabels": {f"{AGGREGATE_TO}{name}": "true"}}
    aggregation = {"clusterRoleSelectors": [selector]}
    return validate(CLUSTERROLE, {"metadata": _metadata(name, part_of), "aggregationRule": aggregation}).object


def _binding(role: str, group: str) -> Object:
    subjects = [{"kind": "Group", "name": group}]
    reference = {"kind": "ClusterRole", "name": role}
    return validate(
        CLUSTERROLEBINDING, {"metadata": _metadata(role), "subjects": subjects, "roleRef": reference}
    ).object
