"""ControllerRevision (apps/v1): the template of an AgentSet as it was at one time.

Its data never changes; its number does, when an old template comes back. `choregos.scheduling.revisions` makes them.
"""

from __future__ import annotations

from pydantic import Field

from choregos.resources.columns import AGE, NAME, path
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.parts import FreeForm, Resource


class ControllerRevision(Resource):
    """The template of a set as it was at one time, kept so that the set can go back to it. Written by choregos."""

    data: FreeForm
    """The fields of the set that make up the state: `spec.template`. Cannot be changed."""
    revision: int = Field(ge=0, le=2_147_483_647)
    """Number of the state; the newest has the highest."""


def _controller(obj: ReadOnlyObject, now_ms: int) -> str:
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            group = str(owner.get("apiVersion", "")).rpartition("/")[0]
            kind = str(owner.get("kind", "")).lower()
            return f"{kind}.{group}/{owner.get('name', '')}" if group else f"{kind}/{owner.get('name', '')}"
    return "<none>"


CONTROLLERREVISION = Kind(
    group="apps",
    version="v1",
    kind="ControllerRevision",
    plural="controllerrevisions",
    singular="controllerrevision",
    namespaced=True,
    model=ControllerRevision,
    has_status=False,
    columns=(
        NAME,
        Column("Controller", _controller, description="The set whose template it is."),
        Column("Revision", path("revision"), type="integer", description="Number of the state."),
        AGE,
    ),
    immutable=("data",),
)
