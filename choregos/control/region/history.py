"""What each set has declared so far, as ControllerRevisions; and which template its agents are made from now.

Invariants: before the first agent of a template is made there is a revision of it, and it has the highest number of its
set's; a revision that is declared or that agents are made from is never removed. While a set is paused nothing new is
recorded: the newest revision is what its agents are made from. How revisions are numbered and which are too many is
`scheduling.revisions`' to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from choregos.control.objects import FencedObjects
from choregos.control.owners import Owners
from choregos.foundation.errors import AlreadyExists, Conflict
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.templates import declared_template, digest, instance_template
from choregos.scheduling import revisions


class History:
    """Reads and writes the revisions of sets.

    Args:
        owners: of revisions, and told of every change.
    """

    def __init__(self, objects: FencedObjects, owners: Owners) -> None:
        self._objects = objects
        self._owners = owners

    def current(self, agent_set: ReadOnlyObject) -> Mapping[str, Any]:
        """What a new agent of the set is made from: the template as declared or, while it is paused, as it was."""
        spec = agent_set["spec"]
        if spec.get("paused"):
            for revision in reversed(revisions.by_number(self._of(agent_set))):
                if template := revisions.template_of(revision):  # whoever may write revisions may write nonsense
                    return instance_template({**spec, "template": template})
        return instance_template(spec)

    async def record(self, agent_set: ReadOnlyObject, in_use: Iterable[Mapping[str, Any]]) -> None:
        """Has the declared template as the newest revision, and no more of the others than the set's limit.

        Args:
            in_use: templates of the set's agents; only looked at when there may be too many revisions.

        Raises:
            Conflict, Deposed, Temporary.
        """
        known = self._of(agent_set)
        if agent_set["spec"].get("paused") and known:
            return
        desired = revisions.revision_of(agent_set, known)
        metadata = desired["metadata"]
        existing = self._objects.find(revisions.RESOURCE, metadata["namespace"], metadata["name"])
        if existing is not None:
            await self._objects.update(revisions.RESOURCE, existing, revisions.merged(existing, desired))
        else:
            try:
                await self._objects.create(revisions.RESOURCE, desired)
            except AlreadyExists as error:
                raise Conflict(f"revision {metadata['name']} has just been made by somebody else") from error
        limit = agent_set["spec"].get("revisionHistoryLimit", revisions.LIMIT_DEFAULT)
        if len(known) > limit:
            used = {digest(declared_template(template)) for template in in_use}
            live = {revisions.revision_name(agent_set["metadata"]["name"], each) for each in used} | {metadata["name"]}
            for surplus in revisions.surplus(known, live, limit):
                await self._objects.delete(revisions.RESOURCE, surplus)

    def _of(self, agent_set: ReadOnlyObject) -> list[Object]:
        return [obj for resource, obj in self._owners.dependents(agent_set) if resource == revisions.RESOURCE]
