"""What the directory holds: instances, what groups of them share, and how they change. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from choregos.resources.meta import REGION_LABEL, SET_LABEL, TEMPLATE_LABEL
from choregos.store.watch import ChangeType
from choregos.wire.instances import AgentRecord, DeletionRecord, Phase, StatusRecord

Key = tuple[str, str]
"""(namespace, name) of an instance."""


class _Entry(msgspec.Struct, gc=False):
    """What is used here of a template's spec."""

    name: str = ""
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] | None = None


class Template:
    """A parsed agent template, shared by all instances that name its digest.

    Attributes:
        revision: sequence of its record; 0 while there is none: only its digest is known, or the record was removed.
        spec: one `spec.agents[]` entry of an AgentCluster, without replicas and strategy.
        name: of the entry; empty while only the digest is known.
        capabilities: those it declares.
        labels: the entry's own labels.
    """

    __slots__ = ("capabilities", "digest", "labels", "name", "namespace", "revision", "spec")

    def __init__(self, namespace: str, digest: str, spec: Mapping[str, Any], revision: int) -> None:
        self.namespace = namespace
        self.digest = digest
        self.load(spec, revision)

    def load(self, spec: Mapping[str, Any], revision: int) -> None:
        """Fills in what only the digest was known of.

        Raises:
            msgspec.ValidationError: that is no template's spec; nothing has changed.
        """
        entry = msgspec.convert(spec, _Entry)
        self.spec = spec
        self.revision = revision
        self.name = entry.name
        self.capabilities = entry.capabilities
        self.labels: Mapping[str, str] = entry.labels or {}

    def removed(self) -> None:
        """Its record is gone; what is known of it still serves the instances that have it."""
        self.revision = 0


class Group:
    """Instances of one set that have the same template, and therefore the same labels.

    Attributes:
        keys: of its instances.
    """

    __slots__ = ("_labels", "agent_set", "agent_set_uid", "keys", "region", "template")

    def __init__(self, region: str, agent_set: str, agent_set_uid: str, template: Template) -> None:
        self.region = region
        self.agent_set = agent_set
        self.agent_set_uid = agent_set_uid
        self.template = template
        self.keys: set[Key] = set()
        self._labels: Mapping[str, str] | None = None

    @property
    def labels(self) -> Mapping[str, str]:
        """The template's labels and those that name template, set and region."""
        if self._labels is None:
            self._labels = {
                **self.template.labels,
                TEMPLATE_LABEL: self.template.name,
                SET_LABEL: self.agent_set,
                REGION_LABEL: self.region,
            }
        return self._labels

    def template_loaded(self) -> None:
        self._labels = None


class Instance(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One agent, as of one revision.

    Attributes:
        record_revision: sequence of the agent record: what a conditional write of it expects.
        status: None until its node has written one for this uid and binding.
        deletion: somebody asked for this uid to be deleted; the region's leader may have acted on it.
        revision: sequence of the newest record in it: its resourceVersion.
    """

    namespace: str
    name: str
    record: AgentRecord
    record_revision: int
    status: StatusRecord | None
    deletion: DeletionRecord | None
    revision: int
    group: Group

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def template(self) -> Template:
        return self.group.template

    @property
    def labels(self) -> Mapping[str, str]:
        return self.group.labels

    @property
    def phase(self) -> Phase:
        return Phase.PENDING if self.status is None else self.status.phase

    @property
    def grace_s(self) -> int | None:
        """Seconds it has for its end, from when that began: the least that was asked for; None if nobody has."""
        asked = self.deletion.grace_s if self.deletion is not None else None
        begun = self.record.grace_s if self.record.deletion_ms else None
        return min((given for given in (asked, begun) if given is not None), default=None)

    @property
    def host(self) -> str:
        """The worker that has it; empty while none does, or none is known."""
        return self.status.host if self.status is not None else ""

    @property
    def ready(self) -> bool:
        """Takes calls now."""
        return self.status is not None and self.status.ready and not self.record.deletion_ms

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Those its template declares, else those its class does."""
        return self.group.template.capabilities or (self.status.capabilities if self.status is not None else ())


class InstanceChange(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One change of one instance.

    Attributes:
        instance: as it is now; for a deletion as it was last.
        previous: as it was before; None if it is new.
        revision: sequence of the record that brought the change.
    """

    type: ChangeType
    instance: Instance
    previous: Instance | None
    revision: int
