"""What a request is about, read from its method and path as Kubernetes' RequestInfo resolver reads them.

Pure. Does not know which kinds exist: a target that nobody serves is found out later.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One resource, collection or subresource.

    Attributes:
        group: empty for the core group.
        resource: plural name, as in the path.
        namespace: empty for cluster-scoped resources and for all namespaces.
        name: empty for a collection.
        subresource: `status`, `scale`, `log`, …; empty for the object itself.
    """

    group: str
    version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse(path: str) -> Target | None:
    """The target of a path; None for one that names no resource, such as `/version` or `/apis/choregos.dev/v1`."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    # `namespaces/x` and its own subresources are the namespace itself; anything deeper is something inside it.
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        return None
    resource, name, subresource = (*rest, "", "")[:3]
    return Target(group, version, resource, namespace, name, subresource)


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def verb(method: str, target: Target, *, watch: bool) -> str:
    """The authorization verb; empty for a method that the API does not know."""
    if method in ("GET", "HEAD"):
        if watch:
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE" and not target.name:
        return "deletecollection"
    return _VERBS.get(method, "")
