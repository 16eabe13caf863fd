"""RoleBinding and ClusterRoleBinding: who has a role, in one namespace or everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from choregos.foundation.errors import FieldError
from choregos.resources.columns import AGE, NAME, Cell
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.parts import Part, Resource
from choregos.resources.kinds.rbac.role import GROUP, RoleMeta


class Subject(Part):
    """A user, a group, or a service account."""

    kind: Literal["User", "Group", "ServiceAccount"]
    """`User`, `Group` or `ServiceAccount`."""
    api_group: str | None = None
    """`rbac.authorization.k8s.io` for users and groups, nothing for service accounts; filled in."""
    name: str = Field(min_length=1)
    """Name of the user, group or service account."""
    namespace: str | None = None
    """Namespace of the service account; in a RoleBinding its own if left out."""

    @model_validator(mode="after")
    def _with_group(self) -> Self:
        if self.kind != "ServiceAccount" and not self.api_group:
            self.api_group = GROUP
        return self


class RoleRef(Part):
    """The role that is granted."""

    api_group: str = Field(default=GROUP, pattern=r"^(rbac\.authorization\.k8s\.io)?$")
    """`rbac.authorization.k8s.io`."""
    kind: Literal["Role", "ClusterRole"]
    """`Role`, of the same namespace, or `ClusterRole`."""
    name: str = Field(min_length=1)
    """Name of the role. It need not exist yet."""

    @model_validator(mode="after")
    def _with_group(self) -> Self:
        self.api_group = GROUP
        return self


class RoleBinding(Resource):
    """Grants a role in one namespace. A ClusterRole granted so holds in this namespace only."""

    metadata: RoleMeta
    """Standard metadata of the object."""
    subjects: list[Subject] | None = Field(default=None, max_length=1000)
    """Who has the role."""
    role_ref: RoleRef
    """The role that is granted. Cannot be changed: delete the binding and make another."""


class ClusterRoleBinding(RoleBinding):
    """Grants a ClusterRole in all namespaces, and for what has none."""


def _subject_faults(obj: ReadOnlyObject, *, namespaced: bool) -> Iterator[FieldError]:
    subjects = obj.get("subjects")
    for index, subject in enumerate(subjects if isinstance(subjects, list) else ()):
        if not isinstance(subject, dict):
            continue
        place, of_account = f"subjects[{index}]", subject.get("kind") == "ServiceAccount"
        if subject.get("apiGroup") not in ((None, "") if of_account else (None, "", GROUP)):
            expected = "nothing" if of_account else GROUP
            yield FieldError(f"{place}.apiGroup", f"expected {expected}", "FieldValueNotSupported")
        if of_account and not namespaced and not subject.get("namespace"):
            yield FieldError(f"{place}.namespace", "is required for a service account", "FieldValueRequired")


def _rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    yield from _subject_faults(obj, namespaced=True)


def _cluster_rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    yield from _subject_faults(obj, namespaced=False)
    reference = obj.get("roleRef")
    if isinstance(reference, dict) and reference.get("kind") == "Role":
        yield FieldError("roleRef.kind", "expected ClusterRole, found Role", "FieldValueNotSupported")


def _role(obj: ReadOnlyObject, now_ms: int) -> str:
    reference = obj.get("roleRef") or {}
    return f"{reference.get('kind', '')}/{reference.get('name', '')}"


def _subjects(kind: str) -> Cell:
    def cell(obj: ReadOnlyObject, now_ms: int) -> str:
        found: list[dict[str, Any]] = [each for each in obj.get("subjects") or () if each.get("kind") == kind]
        return ", ".join(
            f"{each['namespace']}/{each.get('name')}" if each.get("namespace") else str(each.get("name"))
            for each in found
        )

    return cell


_COLUMNS = (
    NAME,
    Column("Role", _role, description="The role that is granted."),
    AGE,
    Column("Users", _subjects("User"), wide=True, description="Users who have it."),
    Column("Groups", _subjects("Group"), wide=True, description="Groups that have it."),
    Column("ServiceAccounts", _subjects("ServiceAccount"), wide=True, description="Service accounts that have it."),
)

ROLEBINDING = Kind(
    group=GROUP,
    version="v1",
    kind="RoleBinding",
    plural="rolebindings",
    singular="rolebinding",
    namespaced=True,
    model=RoleBinding,
    has_status=False,
    columns=_COLUMNS,
    rules=_rules,
    immutable=("roleRef",),
)
CLUSTERROLEBINDING = Kind(
    group=GROUP,
    version="v1",
    kind="ClusterRoleBinding",
    plural="clusterrolebindings",
    singular="clusterrolebinding",
    namespaced=False,
    model=ClusterRoleBinding,
    has_status=False,
    columns=_COLUMNS,
    rules=_cluster_rules,
    immutable=("roleRef",),
)
