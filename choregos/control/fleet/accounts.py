"""Gives every namespace a ServiceAccount named `default`, so that there is one to bind roles to and make tokens of.

Invariant: it is made only where it is missing and the namespace stays; one that is there is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import ACCOUNTS, NAMESPACES, FencedObjects
from choregos.foundation.errors import AlreadyExists
from choregos.resources import meta
from choregos.resources.kinds.core.serviceaccount import SERVICEACCOUNT
from choregos.resources.validation import validate

NAME = "default"


class AccountReconciler:
    """Drives one Namespace per key."""

    name = "serviceaccounts"

    def __init__(self, objects: FencedObjects) -> None:
        self._objects = objects

    def keys(self) -> Iterable[Key]:
        for namespace in self._objects.list(NAMESPACES):
            yield Key("", namespace["metadata"]["name"])

    async def reconcile(self, key: Key) -> Result:
        namespace = self._objects.find(NAMESPACES, "", key.name)
        if namespace is None or meta.is_deleting(namespace) or self._objects.find(ACCOUNTS, key.name, NAME):
            return DONE
        account = {"metadata": {"name": NAME, "namespace": key.name}}
        try:
            await self._objects.create(ACCOUNTS, validate(SERVICEACCOUNT, account).object)
        except AlreadyExists:
            return DONE  # somebody was faster
        return DONE
