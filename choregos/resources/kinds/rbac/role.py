"""Role and ClusterRole: rules to be granted together, in one namespace or anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from choregos.foundation.errors import FieldError
from choregos.resources import names, selectors
from choregos.resources.columns import NAME, path
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.parts import Labels, ObjectMeta, Part, Resource

GROUP = "rbac.authorization.k8s.io"

_WORDS_MAX = 1000


def _check_name(name: str) -> str:
    if fault := names.path_segment_fault(name):
        raise ValueError(fault)
    return name


class RoleMeta(ObjectMeta):
    """Standard metadata of an object; the name may hold colons and capitals."""

    name: Annotated[str, AfterValidator(_check_name)] | None = None
    """Unique within the namespace, for this kind. Cannot be changed."""


class PolicyRule(Part):
    """Allows each of `verbs` on each of `resources`, or on each of `nonResourceURLs`."""

    verbs: list[str] = Field(min_length=1, max_length=_WORDS_MAX)
    """What may be done: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; also
    `impersonate`, `bind`, `escalate`. `*` is all."""
    api_groups: list[str] | None = Field(default=None, max_length=_WORDS_MAX)
    """API groups of the resources; empty text is the core group. `*` is all."""
    resources: list[str] | None = Field(default=None, max_length=_WORDS_MAX)
    """Resources such as `agentclusters`, and subresources such as `agents/log`. `*` is all, `*/scale` that
    subresource of all."""
    resource_names: list[str] | None = Field(default=None, max_length=_WORDS_MAX)
    """Names of the objects. Without it, all. `list` and `watch` need a field selector on the name then."""
    non_resource_urls: Annotated[list[str] | None, Field(alias="nonResourceURLs", max_length=_WORDS_MAX)] = None
    """Paths that are no resource, such as `/healthz`; a `*` at the end stands for any rest. In a ClusterRole only."""


class LabelExpression(Part):
    """A condition on one label."""

    key: str
    """Key of the label."""
    operator: str
    """`In`, `NotIn`, `Exists` or `DoesNotExist`."""
    values: list[str] | None = None
    """Values, for `In` and `NotIn`."""


class RoleSelector(Part):
    """Selects ClusterRoles by their labels."""

    match_labels: Labels | None = None
    """Labels they must have."""
    match_expressions: list[LabelExpression] | None = None
    """Conditions on their labels."""


class AggregationRule(Part):
    """Which ClusterRoles this one is made of."""

    cluster_role_selectors: list[RoleSelector] | None = None
    """A ClusterRole that any of them selects gives its rules to this one."""


class Role(Resource):
    """Rules for one namespace, granted by a RoleBinding."""

    metadata: RoleMeta
    """Standard metadata of the object."""
    rules: list[PolicyRule] | None = Field(default=None, max_length=_WORDS_MAX)
    """What the role allows."""


class ClusterRole(Role):
    """Rules for the whole fleet, granted by a ClusterRoleBinding; or by a RoleBinding, for its namespace."""

    aggregation_rule: AggregationRule | None = None
    """Makes the rules of this role those of others; choregos keeps `rules` then, and overwrites what is there."""


def _rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    listed = obj.get("rules")
    for index, rule in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(rule, dict):
            yield from _rule_faults(rule, f"rules[{index}]", namespaced=obj.get("kind") == "Role")


def _rule_faults(rule: dict[str, Any], place: str, *, namespaced: bool) -> Iterator[FieldError]:
    if rule.get("nonResourceURLs"):
        if namespaced:
            message = "rules of a namespace cannot be about paths; use a ClusterRole"
            yield FieldError(f"{place}.nonResourceURLs", message, "FieldValueInvalid")
        if any(rule.get(key) for key in ("apiGroups", "resources", "resourceNames")):
            message = "a rule is about resources or about paths, not both"
            yield FieldError(f"{place}.nonResourceURLs", message, "FieldValueInvalid")
        return
    for key, what in (("apiGroups", 'groups; "" is the core group'), ("resources", "resources")):
        if not rule.get(key):
            yield FieldError(f"{place}.{key}", f"a rule about resources names its {what}", "FieldValueRequired")


def _cluster_rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    yield from _rules(obj)
    aggregation = obj.get("aggregationRule")
    listed = aggregation.get("clusterRoleSelectors") if isinstance(aggregation, dict) else None
    for index, selector in enumerate(listed if isinstance(listed, list) else ()):
        try:
            selectors.label_selector(selector)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            yield FieldError(f"aggregationRule.clusterRoleSelectors[{index}]", f"is no label selector: {error}")


_COLUMNS = (NAME, Column("Created At", path("metadata", "creationTimestamp"), description="When it was created."))

ROLE = Kind(
    group=GROUP,
    version="v1",
    kind="Role",
    plural="roles",
    singular="role",
    namespaced=True,
    model=Role,
    has_status=False,
    columns=_COLUMNS,
    rules=_rules,
)
CLUSTERROLE = Kind(
    group=GROUP,
    version="v1",
    kind="ClusterRole",
    plural="clusterroles",
    singular="clusterrole",
    namespaced=False,
    model=ClusterRole,
    has_status=False,
    columns=_COLUMNS,
    rules=_cluster_rules,
)
