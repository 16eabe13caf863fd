"""Three API servers over one store: the same answers, and nobody reads his own past, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from e2e_histories import RBAC, SHOWN, History, same_everywhere, same_now
from e2e_machine import UpProcess, applied, cluster
from e2e_replicas import (
    CONFIGMAPS,
    Servers,
    configmap,
    dice,
    revision,
    servers_of,
    summary,
    until_each_has_written,
    writing_and_reading,
)

from choregos.client.connection import Connection
from choregos.client.watching import list_all
from choregos.foundation.errors import Denied, Unauthenticated

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

__all__ = ["dice"]


@pytest.fixture(scope="module")
def servers(machine: UpProcess) -> Iterator[Servers]:
    with servers_of(machine, beside=2) as servers:
        yield servers


async def trouble(servers: Servers, dice: random.Random) -> None:
    """A server is killed, the store stands still for a moment; when this returns, all serve again."""
    bus = servers.machine.only("nats-server")
    victim = dice.choice([*servers.replicas, None])
    if victim is None:
        servers.kill_own()
    else:
        victim.kill()
    bus.send_signal(signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(0, 0.5))
    bus.send_signal(signal.SIGCONT)
    if victim is not None:
        victim.start()
    await servers.until_all_answer()


async def test_nobody_reads_his_own_past(servers: Servers, dice: random.Random):
    async with servers.connections() as connections, writing_and_reading(connections, dice, "calm", 8) as authors:
        await until_each_has_written(authors, 30)
    print(summary(authors))
    assert (summary(authors)["unknown"], summary(authors)["unseen"]) == (0, 0)


async def test_nor_while_servers_are_killed_and_the_store_stands_still(servers: Servers, dice: random.Random):
    async with servers.connections() as connections, writing_and_reading(connections, dice, "troubled", 6) as authors:
        for _ in range(2):
            await until_each_has_written(authors, 3)
            await trouble(servers, dice)
        await until_each_has_written(authors, 3)
    print(summary(authors))


async def test_all_give_the_same_answers(servers: Servers, dice: random.Random):
    machine = servers.machine
    async with machine.client() as client:
        await applied(client, cluster("same", machine.template("same", "Witness", 3, resources={"cpu": "10m"})))
    async with servers.connections() as connections:
        history = History(connections, dice, "same-same")
        began = {collection: (await list_all(connections[0], collection, {})).revision for collection in SHOWN}
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(history.write(60))
            for _ in range(3):
                for collection in SHOWN:
                    await same_everywhere(connections, collection, dice)
        print(history.written, history.refused)
        ended = {collection: await same_everywhere(connections, collection, dice) for collection in SHOWN}
        for collection in SHOWN:
            await same_now(connections, collection)
        await asyncio.gather(
            *(
                same_changes(connections, collection, int(began[collection]), ended[collection])
                for collection in SHOWN
                if not collection.endswith("/events")  # they may be gone, each in its time
            )
        )


async def same_changes(servers: list[Connection], collection: str, after: int, to: int) -> None:
    shown = await asyncio.gather(*(changes(server, collection, after, to) for server in servers))
    assert shown[0], collection
    assert shown[1:] == shown[:-1], collection


async def changes(server: Connection, collection: str, after: int, to: int) -> list[Any]:
    """What a watch shows of what happened after one revision and up to another, both of them told by any server."""
    query = {"watch": "true", "resourceVersion": str(after), "timeoutSeconds": "1"}
    found = []
    async with aclosing(server.lines(collection, query, silence_s_max=30)) as lines:
        async for line in lines:
            event = json.loads(line)
            assert event["type"] != "ERROR", event
            if revision(event["object"]) > to:
                break
            found.append(event)
    return found


async def test_what_is_granted_or_taken_away_at_one_is_so_at_the_others(servers: Servers, dice: random.Random):
    async with servers.connections() as admin:
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        bindings = f"{RBAC}/namespaces/default/rolebindings"
        for number in range(12):
            name = f"robot-{number}"
            await dice.choice(admin).request("POST", accounts, body={"metadata": {"name": name}})
            made = await dice.choice(admin).request("POST", f"{accounts}/{name}/token", body={"spec": {}})
            access = replace(servers.access, certificate_pem=b"", key_pem=b"", token=made["status"]["token"])
            binding = {
                "metadata": {"name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
                "roleRef": {"kind": "ClusterRole", "name": "view"},
            }
            async with servers.connections(access) as robot:
                ask = {"query": dice.choice(({}, {"resourceVersion": "0"}))}
                for _ in range(3):
                    with pytest.raises(Denied):
                        await dice.choice(robot).request("GET", CONFIGMAPS, **ask)
                    await dice.choice(admin).request("POST", bindings, body=binding)
                    await dice.choice(robot).request("GET", CONFIGMAPS, **ask)
                    await dice.choice(admin).request("DELETE", f"{bindings}/{name}")
                    with pytest.raises(Denied):
                        await dice.choice(robot).request("GET", CONFIGMAPS, **ask)
                await dice.choice(admin).request("DELETE", f"{accounts}/{name}")
                for server in robot:
                    with pytest.raises(Unauthenticated):
                        await server.request("GET", "/apis/choregos.dev/v1/agentnodes")


async def test_a_quota_holds_however_many_take_from_it_at_once(servers: Servers, dice: random.Random):
    place = "/api/v1/namespaces/tight"
    async with servers.connections() as connections:
        await connections[0].request("POST", "/api/v1/namespaces", body={"metadata": {"name": "tight"}})
        quota = {"metadata": {"name": "few"}, "spec": {"hard": {"configmaps": "10"}}}
        await connections[1].request("POST", f"{place}/resourcequotas", body=quota)

        async def create(number: int) -> bool:
            try:
                await dice.choice(connections).request("POST", f"{place}/configmaps", body=configmap(f"x{number}", 1))
            except Denied:
                return False
            return True

        stored = await asyncio.gather(*map(create, range(30)))
        assert sum(stored) == 10
        assert len((await list_all(connections[2], f"{place}/configmaps", {})).items) == 10


def test_kubectl_and_choregos_ask_the_server_they_are_told(servers: Servers):
    machine = servers.machine
    for number, url in enumerate(servers.urls):
        value = f"--from-literal=value={number}"
        machine.kubectl("--server", url, "create", "configmap", f"told-{number}", value)
        for other in servers.urls:
            shown = machine.kubectl(
                "--server", other, "get", "configmap", f"told-{number}", "-o", "jsonpath={.data.value}"
            )
            assert shown == str(number)
    assert machine.choregos("--server", servers.urls[1], "get", "configmaps", "-o", "name").out.count("told-") == 3
    unreachable = machine.choregos("get", "configmaps", "--server", "https://127.0.0.1:1")
    assert (unreachable.code, "https://127.0.0.1:1" in unreachable.err) == (7, True)
    # Each has a log of its own; the record of what was refused is one.
    for each in servers.replicas:
        assert (machine.root / "logs" / f"api-{each.port}.log").exists()
