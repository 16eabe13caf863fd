"""The metadata of an instance, alike whatever it is shown as."""

from __future__ import annotations

from functools import lru_cache

from choregos.foundation.timestamp import rfc3339
from choregos.resources import meta
from choregos.resources.kind import Object
from choregos.store.instance import Instance


def metadata(instance: Instance) -> Object:
    """Its resourceVersion is the sequence of its newest record."""
    record = instance.record
    shown: Object = {
        "name": instance.name,
        "namespace": instance.namespace,
        "uid": record.uid,
        "resourceVersion": str(instance.revision),
        "creationTimestamp": time(record.created_ms),
        "labels": instance.labels,
        "ownerReferences": [
            {
                "apiVersion": meta.API_VERSION,
                "kind": "AgentSet",
                "name": record.agent_set,
                "uid": record.agent_set_uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if record.deletion_ms:
        shown["deletionTimestamp"] = time(record.deletion_ms)
        shown["deletionGracePeriodSeconds"] = instance.grace_s
    return shown


def time(wall_ms: int) -> str:
    """`metav1.Time` of a wall clock in milliseconds."""
    return _time(wall_ms // 1000)


@lru_cache(maxsize=4096)
def _time(wall_s: int) -> str:
    # Agents are made by the thousand in the same second.
    return rfc3339(wall_s * 1000)
