"""Every agent of a region, in memory: the join of agent, status and deletion records, with the indexes that
scheduling, supervision and calls need.

Invariants: an `Instance` never changes, a change makes a new one; it carries a status only if that is the last of its
subject and speaks of the uid and binding of its agent record, so that all readers agree, whatever order they saw the
records in and whichever they missed; every index agrees with the instances at all times. A node that finds its agent
without the status it wrote must write it again. What speaks of no agent there is waits for it for about an hour
(`choregos.store.waiting`), longer than any reader takes to catch up. Decides nothing and writes nothing
(`choregos.store.instances` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import intern
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from choregos.foundation.clock import Clock
from choregos.foundation.errors import NotFound
from choregos.store.instance import Instance, InstanceChange, Key, Template
from choregos.store.instance_index import InstanceIndex
from choregos.store.port import Record, RecordLog
from choregos.store.read_model import ReadModel
from choregos.store.waiting import Waiting
from choregos.store.watch import ChangeRing, ChangeType, Watch, rewound
from choregos.wire import subjects
from choregos.wire.instances import AgentRecord, DeletionRecord, StatusRecord, TemplateRecord

HISTORY_CHANGES_MAX = 20_000
"""Changes kept for watches that come back: two for each of 10,000 agents."""


class Directory(ReadModel[InstanceChange]):
    """The instances of one region's log. An async context manager: open means complete.

    Args:
        history: changes kept for `watch`; 0 for readers that nobody watches, such as a node.
    """

    def __init__(self, log: RecordLog, region: str, clock: Clock, *, history: int = HISTORY_CHANGES_MAX) -> None:
        self.region = region
        self._history = history
        self._instances: dict[Key, Instance] = {}
        self._ordered: dict[str, list[Key]] = {}  # namespace or "" -> sorted keys; empty after one came or went
        # Statuses and deletion requests that do not speak of the agent record there is, or there is none. They count
        # as soon as the record they speak of comes.
        self._waiting_statuses: Waiting[StatusRecord] = Waiting(clock)
        self._waiting_deletions: Waiting[DeletionRecord] = Waiting(clock)
        self._index = InstanceIndex(region)
        self._ring: ChangeRing[InstanceChange] = ChangeRing(0, history)
        self._appliers: dict[str, Callable[[Key, Record], InstanceChange | None]] = {
            "a": self._apply_agent,
            "as": self._apply_status,
            "ad": self._apply_deletion,
            "at": self._apply_template,
        }
        super().__init__(log, clock)

    # Reading

    def __len__(self) -> int:
        return len(self._instances)

    def find(self, namespace: str, name: str) -> Instance | None:
        return self._instances.get((namespace, name))

    def get(self, namespace: str, name: str) -> Instance:
        """Raises: NotFound."""
        found = self._instances.get((namespace, name))
        if found is None:
            raise NotFound(f'agents "{name}" not found')
        return found

    def list(self, namespace: str = "") -> Sequence[Instance]:
        """Ordered by namespace and name; an empty `namespace` means all."""
        return self._all(self._keys(namespace))

    def count(self, namespace: str = "") -> int:
        """How many agents `list` has."""
        return len(self._keys(namespace) if namespace else self._instances)

    def _keys(self, namespace: str) -> Sequence[Key]:
        keys = self._ordered.get(namespace)
        if keys is None:
            keys = sorted(key for key in self._instances if not namespace or key[0] == namespace)
            self._ordered[namespace] = keys
        return keys

    def list_as_of(self, revision: int, namespace: str = "") -> Sequence[Instance]:
        """As `list`, of an earlier moment.

        Raises:
            Expired: not all changes since are known.
        """
        changes = (each for each in self._ring.back_to(revision) if namespace in ("", each.instance.namespace))
        present = {instance.key: instance for instance in self.list(namespace)}
        return rewound(present, ((each.instance.key, each.previous) for each in changes))

    def of_set(self, agent_set_uid: str) -> Sequence[Instance]:
        """The agents of one AgentSet, in no order."""
        return self._all(self._index.of_set(agent_set_uid))

    def on_node(self, node: str) -> Sequence[Instance]:
        """The agents bound to one node, in no order; an empty `node`: those that are bound to none."""
        return self._all(self._index.on_node(node))

    def has_host(self, host: str) -> bool:
        """Whether some agent is known to be in this worker."""
        return self._index.has_host(host)

    def with_capability(self, namespace: str, capability: str) -> Sequence[Instance]:
        """The ready agents that have it, in no order."""
        return self._all(self._index.ready_with(namespace, capability))

    def capabilities(self, namespace: str) -> Sequence[str]:
        """Every capability that some ready agent of the namespace has, sorted: for error messages."""
        return self._index.capabilities(namespace)

    def with_labels(self, namespace: str, wanted: Callable[[Mapping[str, str]], bool]) -> Sequence[Instance]:
        """The agents whose labels `wanted` accepts, in no order; it is asked once per set and template."""
        return self._all(self._index.with_labels(namespace, wanted))

    def strays(self) -> Sequence[Key]:
        """Names that a status is here for and no agent record: somebody should have them removed from the log."""
        return [key for key, _ in self._waiting_statuses.sequences() if key not in self._instances]

    @property
    def templates(self) -> Mapping[tuple[str, str], Template]:
        """By (namespace, digest)."""
        return self._index.templates

    def _all(self, keys: Iterable[Key]) -> Sequence[Instance]:
        return list(map(self._instances.__getitem__, keys))

    def watch(self, namespace: str = "", *, since: int | None = None) -> Watch[InstanceChange]:
        """Changes after revision `since` (None: from now on); close it with `aclose`.

        `since` must not be ahead of `revision`: use `wait_for` first.

        Raises:
            Expired: `since` is older than the changes kept; the iteration raises it too when the watcher is too slow.
        """
        start = self.revision if since is None else since
        return Watch(
            self._ring,
            start,
            lambda: self.revision,
            lambda change: not namespace or change.instance.namespace == namespace,
        )

    # The follower's model

    def apply(self, record: Record) -> InstanceChange | None:
        if record.subject.startswith(_LEASES):
            return None
        kind, _, namespace, name = record.subject.split(".")
        return self._appliers[kind]((intern(subjects.untoken(namespace)), subjects.untoken(name)), record)

    def _publish(self, changes: Sequence[InstanceChange]) -> None:
        self._ring.publish(changes)

    def loaded(self, revision: int) -> None:
        self._ring.end_watches()
        self._ring = ChangeRing(revision, self._history)

    def held(self) -> Iterable[tuple[str, int]]:
        region = self.region
        for (namespace, name), instance in self._instances.items():
            yield subjects.agent_subject(region, namespace, name), instance.record_revision
            if instance.status is not None:
                yield subjects.status_subject(region, namespace, name), instance.revision
            if instance.deletion is not None:
                yield subjects.deletion_subject(region, namespace, name), instance.revision
        for (namespace, name), sequence in self._waiting_statuses.sequences():
            yield subjects.status_subject(region, namespace, name), sequence
        for (namespace, name), sequence in self._waiting_deletions.sequences():
            yield subjects.deletion_subject(region, namespace, name), sequence
        for (namespace, digest), template in self._index.templates.items():
            if template.revision:
                yield subjects.template_subject(region, namespace, digest), template.revision

    def _apply_agent(self, key: Key, record: Record) -> InstanceChange | None:
        previous = self._instances.get(key)
        if record.tombstone:
            if previous is None:
                return None
            self._set_aside(key, previous.status, previous.deletion, record.sequence)
            return self._replace(key, previous, None, record.sequence)
        agent = _AGENT.decode(record.data)
        for field in _SHARED_FIELDS:
            force_setattr(agent, field, intern(getattr(agent, field)))
        status, deletion = self._joined(key, agent, previous, record.sequence)
        new = Instance(
            key[0],
            key[1],
            agent,
            record.sequence,
            status,
            deletion,
            record.sequence,
            self._index.group(key[0], agent),
        )
        return self._replace(key, previous, new, record.sequence)

    def _joined(
        self, key: Key, agent: AgentRecord, previous: Instance | None, sequence: int
    ) -> tuple[StatusRecord | None, DeletionRecord | None]:
        """What counts of the status and the deletion request known for the name of an agent whose record has come."""
        status = previous.status if previous is not None else None
        deletion = previous.deletion if previous is not None else None
        if self._waiting_statuses:
            status = self._waiting_statuses.take(key) or status
        if self._waiting_deletions:
            deletion = self._waiting_deletions.take(key) or deletion
        if status is not None and not _speaks_of(status, agent):
            self._set_aside(key, status, None, sequence)
            status = None
        if deletion is not None and deletion.uid != agent.uid:
            self._set_aside(key, None, deletion, sequence)
            deletion = None
        return status, deletion

    def _set_aside(self, key: Key, status: StatusRecord | None, deletion: DeletionRecord | None, sequence: int) -> None:
        if status is not None:
            self._waiting_statuses.put(key, status, sequence)
        if deletion is not None:
            self._waiting_deletions.put(key, deletion, sequence)

    def _apply_status(self, key: Key, record: Record) -> InstanceChange | None:
        instance = self._instances.get(key)
        if self._waiting_statuses:
            self._waiting_statuses.take(key)
        if record.tombstone:
            if instance is None or instance.status is None:
                return None
            return self._revise(instance, None, instance.deletion, record.sequence)
        status = _STATUS.decode(record.data)
        force_setattr(status, "host", intern(status.host))
        force_setattr(status, "reason", intern(status.reason))
        if instance is None or not _speaks_of(status, instance.record):
            self._set_aside(key, status, None, record.sequence)
            # It has overwritten the one that counted: no reader has that any more, so its node must write it again.
            if instance is None or instance.status is None:
                return None
            return self._revise(instance, None, instance.deletion, record.sequence)
        force_setattr(status, "uid", instance.record.uid)
        return self._revise(instance, status, instance.deletion, record.sequence)

    def _apply_deletion(self, key: Key, record: Record) -> InstanceChange | None:
        instance = self._instances.get(key)
        if self._waiting_deletions:
            self._waiting_deletions.take(key)
        if record.tombstone:
            if instance is None or instance.deletion is None:
                return None
            return self._revise(instance, instance.status, None, record.sequence)
        deletion = _DELETION.decode(record.data)
        if instance is None or deletion.uid != instance.record.uid:
            self._set_aside(key, None, deletion, record.sequence)
            if instance is None or instance.deletion is None:
                return None
            return self._revise(instance, instance.status, None, record.sequence)
        return self._revise(instance, instance.status, deletion, record.sequence)

    def _apply_template(self, key: Key, record: Record) -> None:
        namespace, digest = key
        if record.tombstone:
            self._index.drop_template(namespace, digest)
            return
        spec = _SPEC.decode(_TEMPLATE.decode(record.data).spec)
        Template(namespace, digest, spec, 0)  # a spec that cannot be loaded is refused here, before anything changes
        template = self._index.template(namespace, digest)
        groups = self._index.of_template(template)
        # Its instances came first: what the indexes made of them without the template is taken back.
        instances = self._all([key for group in groups for key in group.keys])
        for instance in instances:
            self._index.unready(instance)
        template.load(spec, record.sequence)
        for group in groups:
            group.template_loaded()
        for instance in instances:
            self._index.ready(instance)

    def _revise(
        self, instance: Instance, status: StatusRecord | None, deletion: DeletionRecord | None, sequence: int
    ) -> InstanceChange:
        new = Instance(
            instance.namespace,
            instance.name,
            instance.record,
            instance.record_revision,
            status,
            deletion,
            sequence,
            instance.group,
        )
        return self._replace((new.namespace, new.name), instance, new, sequence)

    def _replace(self, key: Key, previous: Instance | None, new: Instance | None, sequence: int) -> InstanceChange:
        if new is None:
            assert previous is not None
            del self._instances[key]
            self._ordered.clear()
            self._index.update(previous, None)
            return InstanceChange(ChangeType.DELETED, previous, previous, sequence)
        self._instances[key] = new
        self._index.update(previous, new)
        if previous is None:
            self._ordered.clear()
            return InstanceChange(ChangeType.ADDED, new, None, sequence)
        return InstanceChange(ChangeType.MODIFIED, new, previous, sequence)


_AGENT = msgspec.msgpack.Decoder(AgentRecord)
_STATUS = msgspec.msgpack.Decoder(StatusRecord)
_DELETION = msgspec.msgpack.Decoder(DeletionRecord)
_TEMPLATE = msgspec.msgpack.Decoder(TemplateRecord)
_SPEC = msgspec.json.Decoder(dict[str, Any])

_LEASES = "al."
_SHARED_FIELDS = ("agent_set", "agent_set_uid", "template", "node", "reason", "message")
"""Strings that many agent records have in common; kept once."""


def _speaks_of(status: StatusRecord, agent: AgentRecord) -> bool:
    return status.binding == agent.binding and status.uid == agent.uid
