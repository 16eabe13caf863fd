"""Discovery documents, made from the registry: aggregated (`apidiscovery.k8s.io/v2`) and legacy. Pure."""

from __future__ import annotations

from typing import Any

from choregos.resources.kind import Kind
from choregos.resources.registry import SERVED, GroupVersion, names_at

Document = dict[str, Any]


def group_versions() -> list[GroupVersion]:
    """Every (group, version) that is served, aliases included, the core group first."""
    return sorted(SERVED)


def aggregated(*, core: bool) -> Document:
    """`APIGroupDiscoveryList` for `/api` (core) or `/apis`."""
    items: dict[str, Document] = {}
    for group, version in group_versions():
        if bool(group) == core:
            continue
        item = items.setdefault(group, {"metadata": {"name": group} if group else {}, "versions": []})
        resources = [_aggregated_resource(kind, group, version) for kind in SERVED[group, version]]
        item["versions"].append({"version": version, "resources": resources, "freshness": "Current"})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": list(items.values()),
    }


def _aggregated_resource(kind: Kind, group: str, version: str) -> Document:
    plural, singular = names_at(kind, group, version)
    resource: Document = {
        "resource": plural,
        "responseKind": {"group": group, "version": version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": singular,
        "verbs": sorted(kind.verbs),
    }
    resource |= _words(kind, group, version)
    subresources = [
        {
            "subresource": name,
            "responseKind": dict(zip(("group", "version", "kind"), response, strict=True)),
            "verbs": list(verbs),
        }
        for name, response, verbs in _subresources(kind, group, version)
    ]
    if subresources:
        resource["subresources"] = subresources
    return resource


def _words(kind: Kind, group: str, version: str) -> Document:
    """Short names and categories, at the canonical place only: elsewhere they would be ambiguous to kubectl."""
    if (group, version) != (kind.group, kind.version):
        return {}
    words = {"shortNames": list(kind.short_names), "categories": list(kind.categories)}
    return {name: listed for name, listed in words.items() if listed}


def _subresources(kind: Kind, group: str, version: str) -> list[tuple[str, tuple[str, str, str], tuple[str, ...]]]:
    """Name, (group, version, kind) of the answer, and verbs."""
    found: list[tuple[str, tuple[str, str, str], tuple[str, ...]]] = []
    if kind.has_status and kind.plane == "declarative":
        found.append(("status", (group, version, kind.kind), ("get", "patch", "update")))
    if kind.scale is not None:
        found.append(("scale", ("autoscaling", "v1", "Scale"), ("get", "patch", "update")))
    found.extend((each.name, each.response, each.verbs) for each in kind.subresources)
    return found


def api_versions() -> Document:
    """`APIVersions`: the legacy document of `/api`."""
    versions = [version for group, version in group_versions() if not group]
    return {"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": []}


def api_groups() -> Document:
    """`APIGroupList`: the legacy document of `/apis`."""
    groups = sorted({group for group, _ in group_versions() if group})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [api_group(group) for group in groups]}


def api_group(group: str) -> Document:
    """`APIGroup`: the document of `/apis/<group>`."""
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for name, version in group_versions()
        if name == group
    ]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def api_resources(group: str, version: str) -> Document:
    """`APIResourceList`: the legacy document of one group and version."""
    resources: list[Document] = []
    for kind in SERVED[group, version]:
        plural, singular = names_at(kind, group, version)
        entry: Document = {
            "name": plural,
            "singularName": singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": sorted(kind.verbs),
        }
        resources.append(entry | _words(kind, group, version))
        for name, (of_group, of_version, of_kind), verbs in _subresources(kind, group, version):
            entry = {"name": f"{plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
            entry |= {"group": of_group, "version": of_version, "kind": of_kind, "verbs": list(verbs)}
            resources.append(entry)
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}
