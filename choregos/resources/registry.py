"""The kinds that are served, and how to find one. The only list of kinds in the system."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from choregos.resources.kind import Kind
from choregos.resources.kinds.agent import AGENT
from choregos.resources.kinds.agentcall import AGENTCALL
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentnode import AGENTNODE
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.kinds.controllerrevision import CONTROLLERREVISION
from choregos.resources.kinds.core.configmap import CONFIGMAP
from choregos.resources.kinds.core.resourcequota import resource_quota
from choregos.resources.kinds.core.secret import SECRET
from choregos.resources.kinds.core.service import SERVICE
from choregos.resources.kinds.core.serviceaccount import SERVICEACCOUNT
from choregos.resources.kinds.event import EVENT
from choregos.resources.kinds.namespace import NAMESPACE
from choregos.resources.kinds.projected.metrics import NODE_METRICS, POD_METRICS
from choregos.resources.kinds.projected.node import NODE
from choregos.resources.kinds.projected.pod import POD
from choregos.resources.kinds.rbac.binding import CLUSTERROLEBINDING, ROLEBINDING
from choregos.resources.kinds.rbac.role import CLUSTERROLE, ROLE
from choregos.resources.kinds.reviews.access import (
    LOCALSUBJECTACCESSREVIEW,
    SELFSUBJECTACCESSREVIEW,
    SELFSUBJECTRULESREVIEW,
    SUBJECTACCESSREVIEW,
)
from choregos.resources.kinds.reviews.identity import SELFSUBJECTREVIEW, TOKENREVIEW
from choregos.resources.quotas.names import counted

PROJECTED: tuple[Kind, ...] = (POD, NODE, POD_METRICS, NODE_METRICS)
_OTHERS: tuple[Kind, ...] = (
    *(AGENTCLUSTER, AGENTSET, CONTROLLERREVISION, AGENT, AGENTNODE, AGENTCALL, NAMESPACE, EVENT),
    *PROJECTED,
    *(CONFIGMAP, SECRET, SERVICEACCOUNT, SERVICE),
    *(ROLE, ROLEBINDING, CLUSTERROLE, CLUSTERROLEBINDING),
    *(SELFSUBJECTACCESSREVIEW, SUBJECTACCESSREVIEW, LOCALSUBJECTACCESSREVIEW, SELFSUBJECTRULESREVIEW),
    *(SELFSUBJECTREVIEW, TOKENREVIEW),
)
RESOURCEQUOTA = resource_quota(_OTHERS)  # the only kind that speaks of others
KINDS: tuple[Kind, ...] = (*_OTHERS, RESOURCEQUOTA)
COUNTED: Mapping[str, str] = MappingProxyType(counted(KINDS))
"""What a quota may count: name → resource."""

GroupVersion = tuple[str, str]
"""(group, version); the core group is empty."""


def group_versions(kind: Kind) -> tuple[GroupVersion, ...]:
    """Where a kind is served, the canonical place first."""
    return ((kind.group, kind.version), *kind.aliases)


def _served() -> Mapping[GroupVersion, tuple[Kind, ...]]:
    result: dict[GroupVersion, tuple[Kind, ...]] = {}
    for kind in KINDS:
        for place in group_versions(kind):
            result[place] = (*result.get(place, ()), kind)
    return MappingProxyType(result)


SERVED: Mapping[GroupVersion, tuple[Kind, ...]] = _served()
"""The kinds of each group and version, those that are only accepted there included."""


def names_at(kind: Kind, group: str, version: str) -> tuple[str, str]:
    """What a kind is called at one place, plural and singular: `v1agentclusters` where it is an alias.

    kubectl looks a word up in the core group first, and `kubectl get agentclusters` shall mean the kind at its own
    place; so only there it has that name.
    """
    prefix = "" if (group, version) == (kind.group, kind.version) else version
    return f"{prefix}{kind.plural}", f"{prefix}{kind.singular}"


def by_plural(group: str, version: str, plural: str) -> Kind | None:
    """The kind served as `/apis/<group>/<version>/…/<plural>` (`/api/<version>` for the core group).

    An alias is found by its name there, and by the kind's own for those who make up paths themselves.
    """
    for kind in SERVED.get((group, version), ()):
        if plural in (kind.plural, names_at(kind, group, version)[0]):
            return kind
    return None


def by_kind(api_version: str, name: str) -> Kind | None:
    """The kind that an object with this apiVersion and kind is of."""
    group, _, version = api_version.rpartition("/")
    return next((kind for kind in SERVED.get((group, version), ()) if kind.kind == name), None)


def by_resource(plural: str) -> Kind | None:
    """The kind with this plural, which is unique but for projected kinds: it is a token of the store's subjects."""
    return next((kind for kind in KINDS if kind.plural == plural and not kind.is_projected), None)
