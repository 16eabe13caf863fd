"""What is stored, read and written: AgentSets of no agents, and ConfigMaps, alike on every server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of object as the load sees it.

    Attributes:
        path: of its collection in the namespace `default`.
        body: what its objects hold besides their metadata.
    """

    kind: str
    plural: str
    api_version: str
    body: dict[str, Any]

    @property
    def path(self) -> str:
        root = "apis" if "/" in self.api_version else "api"
        return f"/{root}/{self.api_version}/namespaces/default/{self.plural}"

    def manifest(self, name: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": name}
        if annotations:
            metadata["annotations"] = annotations
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, **self.body}


AGENTS = Kind("Agent", "agents", "choregos.dev/v1", {})
AGENTSETS = Kind(
    "AgentSet",
    "agentsets",
    "choregos.dev/v1",
    {"spec": {"replicas": 0, "region": "local", "template": {"name": "t", "runtime": {"python": "m:C"}}}},
)
CONFIGMAPS = Kind("ConfigMap", "configmaps", "v1", {"data": {"setting": "x" * 256, "another": "y" * 256}})

KINDS = {kind.plural: kind for kind in (AGENTS, AGENTSETS, CONFIGMAPS)}


def stored(number: int) -> str:
    """Name of one of the objects that are there all the time."""
    return f"stored-{number}"


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()
