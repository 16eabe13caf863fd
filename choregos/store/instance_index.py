"""Indexes over the directory's instances: by node, host, set and labels, and by capability of those that are ready.

Invariant: after `update(previous, new)` every index shows `new` and no trace of `previous`; a template is known while
it has a record or an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TypeVar

from choregos.store.instance import Group, Instance, Key, Template
from choregos.wire.instances import AgentRecord

K = TypeVar("K")


class InstanceIndex:
    """Holds keys; the directory knows the instances."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._templates: dict[tuple[str, str], Template] = {}
        self._groups: dict[str, dict[tuple[str, str], Group]] = {}  # namespace -> (set uid, digest) -> group
        self._groups_of_set: dict[str, list[Group]] = {}
        self._by_node: dict[str, set[Key]] = {}
        self._on_host: dict[str, int] = {}  # host -> how many
        self._ready: dict[tuple[str, str], set[Key]] = {}  # (namespace, capability) -> keys

    def group(self, namespace: str, record: AgentRecord) -> Group:
        """The group that an instance with this record belongs to, made if need be."""
        groups = self._groups.setdefault(namespace, {})
        group = groups.get((record.agent_set_uid, record.template))
        if group is None:
            template = self.template(namespace, record.template)
            group = Group(self._region, record.agent_set, record.agent_set_uid, template)
            groups[record.agent_set_uid, record.template] = group
            self._groups_of_set.setdefault(record.agent_set_uid, []).append(group)
        return group

    def template(self, namespace: str, digest: str) -> Template:
        """The template of this digest, made empty if nothing is known of it yet."""
        template = self._templates.get((namespace, digest))
        if template is None:
            template = self._templates[namespace, digest] = Template(namespace, digest, {}, 0)
        return template

    @property
    def templates(self) -> Mapping[tuple[str, str], Template]:
        """By (namespace, digest)."""
        return self._templates

    def drop_template(self, namespace: str, digest: str) -> None:
        """The template's record is gone: forgets the template with its last instance, or now."""
        template = self._templates.get((namespace, digest))
        if template is not None:
            template.removed()
            self._forget_unused(template)

    def _forget_unused(self, template: Template) -> None:
        if not template.revision and not self.of_template(template):
            self._templates.pop((template.namespace, template.digest), None)

    def update(self, previous: Instance | None, new: Instance | None) -> None:
        """Replaces one state of an instance by another; None: it is not there."""
        self._update_group(previous, new)
        self._update_node(previous, new)
        self._update_host(previous, new)
        self._update_ready(previous, new)

    def _update_group(self, previous: Instance | None, new: Instance | None) -> None:
        before = previous.group if previous is not None else None
        after = new.group if new is not None else None
        if before is after:
            return
        if after is not None and new is not None:
            after.keys.add((new.namespace, new.name))
        if before is not None and previous is not None:
            before.keys.discard((previous.namespace, previous.name))
            if not before.keys:
                self._drop_group(previous.namespace, before)

    def _drop_group(self, namespace: str, group: Group) -> None:
        groups = self._groups[namespace]
        groups.pop((group.agent_set_uid, group.template.digest), None)
        if not groups:
            del self._groups[namespace]
        siblings = self._groups_of_set[group.agent_set_uid]
        siblings.remove(group)
        if not siblings:
            del self._groups_of_set[group.agent_set_uid]
        self._forget_unused(group.template)

    def _update_node(self, previous: Instance | None, new: Instance | None) -> None:
        before = previous.record.node if previous is not None else None
        after = new.record.node if new is not None else None
        if before == after:
            return
        if previous is not None and before is not None:
            _discard(self._by_node, before, previous.key)
        if new is not None and after is not None:
            self._by_node.setdefault(after, set()).add(new.key)

    def _update_host(self, previous: Instance | None, new: Instance | None) -> None:
        before = previous.host if previous is not None else ""
        after = new.host if new is not None else ""
        if before == after:
            return
        if after:
            self._on_host[after] = self._on_host.get(after, 0) + 1
        if before:
            self._on_host[before] -= 1
            if not self._on_host[before]:
                del self._on_host[before]

    def _update_ready(self, previous: Instance | None, new: Instance | None) -> None:
        before = previous.capabilities if previous is not None and previous.ready else ()
        after = new.capabilities if new is not None and new.ready else ()
        if before == after:
            return
        if previous is not None:
            self.unready(previous)
        if new is not None:
            self.ready(new)

    def ready(self, instance: Instance) -> None:
        """Lists an instance under its capabilities, if it takes calls."""
        if instance.ready:
            for capability in set(instance.capabilities):
                self._ready.setdefault((instance.namespace, capability), set()).add(instance.key)

    def unready(self, instance: Instance) -> None:
        """Undoes `ready`."""
        if instance.ready:
            for capability in set(instance.capabilities):
                _discard(self._ready, (instance.namespace, capability), instance.key)

    def of_set(self, agent_set_uid: str) -> Iterator[Key]:
        return chain.from_iterable(group.keys for group in self._groups_of_set.get(agent_set_uid, ()))

    def of_template(self, template: Template) -> list[Group]:
        groups = self._groups.get(template.namespace, {}).values()
        return [group for group in groups if group.template is template]

    def on_node(self, node: str) -> Iterable[Key]:
        return self._by_node.get(node, ())

    def has_host(self, host: str) -> bool:
        return host in self._on_host

    def ready_with(self, namespace: str, capability: str) -> Iterable[Key]:
        return self._ready.get((namespace, capability), ())

    def capabilities(self, namespace: str) -> list[str]:
        return sorted(capability for where, capability in self._ready if where == namespace)

    def with_labels(self, namespace: str, wanted: Callable[[Mapping[str, str]], bool]) -> Iterator[Key]:
        """Asks `wanted` once per group, not once per instance; an empty namespace means all."""
        spaces = [self._groups.get(namespace, {})] if namespace else self._groups.values()
        groups = chain.from_iterable(groups.values() for groups in spaces)
        return chain.from_iterable(group.keys for group in groups if wanted(group.labels))


def _discard(index: dict[K, set[Key]], where: K, key: Key) -> None:
    keys = index[where]
    keys.discard(key)
    if not keys:
        del index[where]
