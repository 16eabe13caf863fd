"""A random history of writes of many kinds, each through any of several API servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from choregos.client.connection import Connection
from choregos.client.watching import list_all
from choregos.foundation.errors import AlreadyExists, ChoregosError, Conflict, Expired, NotFound

CORE = "/api/v1"
OURS = "/apis/choregos.dev/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PLACE = "namespaces/default"
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}

KINDS: dict[str, dict[str, Any]] = {
    f"{CORE}/namespaces": {},
    f"{CORE}/{PLACE}/configmaps": {"data": {"value": "0"}},
    f"{CORE}/{PLACE}/secrets": {"data": {"value": "MDA="}},
    f"{CORE}/{PLACE}/serviceaccounts": {},
    f"{RBAC}/{PLACE}/roles": {"rules": [RULE]},
    f"{RBAC}/clusterroles": {"rules": [RULE]},
    f"{OURS}/agentnodes": {"spec": {"region": "elsewhere"}},
    f"{OURS}/{PLACE}/agentclusters": {
        "spec": {"paused": True, "agents": [{"name": "idle", "replicas": 0, "runtime": {"python": "none:None"}}]}
    },
}
"""By collection: what an object of it has besides its name."""

APPLY = "application/apply-patch+yaml"
PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json")
SHOWN = (
    *KINDS,
    f"{OURS}/{PLACE}/agents",
    f"{OURS}/{PLACE}/agentsets",
    f"{CORE}/{PLACE}/pods",
    f"{CORE}/nodes",
    f"{CORE}/{PLACE}/events",
)
"""The collections that are compared."""


class History:
    """Writes that follow from the dice alone, as far as the answers do."""

    def __init__(self, servers: Sequence[Connection], dice: random.Random, agent_set: str) -> None:
        self._servers = servers
        self._dice = dice
        self._agent_set = f"{OURS}/{PLACE}/agentsets/{agent_set}"
        self.written = 0
        self.refused = 0

    async def write(self, times: int) -> None:
        for _ in range(times):
            try:
                await self._write()
                self.written += 1
            except (AlreadyExists, Conflict, NotFound):
                self.refused += 1

    def _server(self) -> Connection:
        return self._dice.choice(self._servers)

    async def _write(self) -> None:
        dice = self._dice
        if dice.random() < 0.04:
            await self._scale(dice.randint(1, 6))
            return
        collection = dice.choice(list(KINDS))
        name = f"history-{dice.randrange(4)}"
        path = f"{collection}/{name}"
        label = str(dice.randrange(1000))
        match dice.choice(("create", "update", "patch", "apply", "delete", "status")):
            case "create":
                await self._server().request("POST", collection, body=self._object(collection, name, label))
            case "update":
                found = await self._server().request("GET", path)
                found["metadata"].setdefault("labels", {})["x"] = label
                await self._server().request("PUT", path, body=found)
            case "patch":
                await self._patch(path, label)
            case "apply":
                body = self._object(collection, name, label)
                query = {"fieldManager": dice.choice("ab"), "force": "true"}
                await self._server().request("PATCH", path, query=query, body=body, content_type=APPLY)
            case "delete":
                await self._server().request("DELETE", path)
            case "status":
                condition = {"type": "Tried", "status": "True", "reason": "Dice", "message": label}
                condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
                body = {"status": {"conditions": [condition]}}
                path = f"{OURS}/agentnodes/{name}/status"
                await self._server().request("PATCH", path, body=body, content_type=PATCHES[0])

    async def _patch(self, path: str, label: str) -> None:
        media_type = self._dice.choice(PATCHES)
        change: Any = {"metadata": {"labels": {"x": label}}}
        if media_type == PATCHES[2]:
            change = [{"op": "add", "path": "/metadata/labels", "value": {"x": label}}]
        await self._server().request("PATCH", path, body=change, content_type=media_type)

    async def _scale(self, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        await self._server().request("PATCH", f"{self._agent_set}/scale", body=body, content_type=PATCHES[0])

    def _object(self, collection: str, name: str, label: str) -> dict[str, Any]:
        kind, version = _KINDS[collection.rpartition("/")[2]]
        made: dict[str, Any] = {"apiVersion": version, "kind": kind, **KINDS[collection]}
        return made | {"metadata": {"name": name, "labels": {"x": label}}}


_KINDS = {
    "namespaces": ("Namespace", "v1"),
    "configmaps": ("ConfigMap", "v1"),
    "secrets": ("Secret", "v1"),
    "serviceaccounts": ("ServiceAccount", "v1"),
    "roles": ("Role", "rbac.authorization.k8s.io/v1"),
    "clusterroles": ("ClusterRole", "rbac.authorization.k8s.io/v1"),
    "agentnodes": ("AgentNode", "choregos.dev/v1"),
    "agentclusters": ("AgentCluster", "choregos.dev/v1"),
}


async def same_everywhere(servers: Sequence[Connection], collection: str, dice: random.Random) -> int:
    """The revision of a moment of which all servers show the same: the list, each object of it, and the list in
    chunks, each from another server."""
    first, *others = dice.sample(list(servers), len(servers))
    shown = await first.request("GET", collection)
    moment = {"resourceVersion": shown["metadata"]["resourceVersion"], "resourceVersionMatch": "Exact"}
    for other in others:
        assert await other.request("GET", collection, query=moment) == shown, (collection, other.server)
    chunks: list[Any] = []
    query: dict[str, str] = {**moment, "limit": "2"}
    while True:
        page = await dice.choice(servers).request("GET", collection, query=query)
        assert page["metadata"]["resourceVersion"] == moment["resourceVersion"]
        chunks += page["items"]
        if "continue" not in page["metadata"]:
            break
        query = {"limit": "2", "continue": page["metadata"]["continue"]}
    assert chunks == shown["items"], collection
    return int(moment["resourceVersion"])


async def same_now(servers: Sequence[Connection], collection: str) -> None:
    """All servers come to show the same present, object by object; what nobody writes any more at once."""
    for _ in range(50):
        listings = [await list_all(server, collection, {}) for server in servers]
        if all(listing.items == listings[0].items for listing in listings):
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(f"{collection}: {[listing.items for listing in listings]}")
    for item in listings[0].items:
        path = f"{collection}/{item['metadata']['name']}"
        answers = [await _answer(server, path) for server in servers]
        if not all(answer == answers[0] for answer in answers):
            # Somebody has written it between two of these questions; then each knows a newer one than the one before.
            revisions = [int(answer["metadata"]["resourceVersion"]) for answer in answers if answer]
            assert revisions == sorted(revisions), (path, answers)


async def _answer(server: Connection, path: str) -> Any:
    try:
        return await server.request("GET", path)
    except (NotFound, Expired):
        return None
    except ChoregosError as error:
        raise AssertionError(f"{server.server}{path}") from error
