"""ServiceAccount (core/v1): an identity for programs, of one namespace. Its tokens are made by a subresource."""

from __future__ import annotations

from choregos.resources.columns import AGE, NAME
from choregos.resources.kind import Column, Kind, ReadOnlyObject, Subresource
from choregos.resources.kinds.event import ObjectReference
from choregos.resources.kinds.parts import Part, Resource

AUTHENTICATION = "authentication.k8s.io"


class LocalObjectReference(Part):
    """An object of the same namespace."""

    name: str = ""
    """Name of the object."""


class ServiceAccount(Resource):
    """An identity for programs. Its user name is `system:serviceaccount:<namespace>:<name>`; roles are bound to it."""

    secrets: list[ObjectReference] | None = None
    """Secrets that belong to it. Stored; nothing uses them."""
    image_pull_secrets: list[LocalObjectReference] | None = None
    """Secrets for fetching images. Stored; nothing uses them."""
    automount_service_account_token: bool | None = None
    """Whether pods are given its token. Stored; agents are given none."""


def _secrets(obj: ReadOnlyObject, now_ms: int) -> int:
    secrets = obj.get("secrets")
    return len(secrets) if isinstance(secrets, list) else 0


SERVICEACCOUNT = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    plural="serviceaccounts",
    singular="serviceaccount",
    namespaced=True,
    model=ServiceAccount,
    short_names=("sa",),
    has_status=False,
    returns_deleted=True,
    columns=(NAME, Column("Secrets", _secrets, type="integer", description="Secrets that belong to it."), AGE),
    subresources=(Subresource("token", (AUTHENTICATION, "v1", "TokenRequest"), ("create",)),),
)
