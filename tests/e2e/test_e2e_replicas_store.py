"""A store that is not the one it was, emptied or set back by a hand: watches hear of it, and nothing old is served."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e_machine import MakeUp, UpProcess, until, wait_for
from e2e_replicas import AWAY, Servers, name, servers_of
from e2e_watchers import RawWatch

from choregos.client.connection import Connection
from choregos.client.watching import list_all
from choregos.foundation.errors import NotFound
from choregos.foundation.tasks import Tasks

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


@contextmanager
def without_nats_server(machine: UpProcess) -> Iterator[Path]:
    """The directory of the store, while nobody uses it; then everything goes on."""
    machine.process.send_signal(signal.SIGSTOP)  # it would start nats-server again at once
    bus = machine.only("nats-server")
    bus.terminate()
    wait_for(lambda: not bus.is_running() or bus.status() == "zombie", "nats-server ended")
    yield machine.root / "nats" / "jetstream"
    machine.process.send_signal(signal.SIGCONT)


def role(called: str) -> dict[str, Any]:
    return {"metadata": {"name": called}, "rules": []}


async def has_role(server: Connection, called: str) -> bool | None:
    """None if nobody can tell."""
    try:
        await server.request("GET", f"{ROLES}/{called}")
    except NotFound:
        return False
    except AWAY:
        return None
    return True


@pytest.fixture
def servers(make_up: MakeUp) -> Iterator[Servers]:
    machine = make_up()
    machine.start()
    with servers_of(machine, beside=1) as servers:
        yield servers
    machine.stop()


@pytest.mark.parametrize("emptied", [False, True], ids=["set back", "emptied"])
async def test_watches_list_again_when_the_store_is_another(servers: Servers, tmp_path: Path, emptied: bool):
    machine = servers.machine
    async with servers.connections() as connections, Tasks() as tasks:
        first, *_ = connections
        await first.request("POST", ROLES, body=role("kept"))
        with without_nats_server(machine) as store:
            shutil.copytree(store, tmp_path / "backup")
        await servers.until_all_answer()
        for number in range(30):
            await first.request("POST", ROLES, body=role(f"lost-{number}"))
        raws = [RawWatch([connection], path=ROLES, same_log=False) for connection in connections for _ in range(3)]
        for raw in raws:
            await raw.begin()
            tasks.start(raw.follow(), "watch")
        for connection in connections:
            assert await has_role(connection, "lost-29")
        with without_nats_server(machine) as store:
            shutil.rmtree(store)
            if not emptied:
                shutil.copytree(tmp_path / "backup", store)
        if emptied:
            machine.only("control").kill()  # the streams are made at its start

        async def listed_again() -> bool:
            return all(len(raw.pictures) > 1 for raw in raws)

        await until(listed_again, "every watch was told to list again")
        for raw in raws:
            shown = raw.pictures[-1].items
            assert not [each for each in shown if each.startswith("lost-")]
            assert ("kept" in shown) is not emptied
        for connection in connections:
            assert await has_role(connection, "lost-29") is False
            assert await has_role(connection, "kept") is not emptied
        await first.request("POST", ROLES, body=role("new"))

        async def seen() -> bool:
            # Perhaps not as the last: into an empty store a server that starts again puts its default roles.
            return all(any(each.name == "new" for each in raw.seen) for raw in raws)

        await until(seen, "every watch shows what comes after")
        for connection in connections:
            shown = [name(item) for item in (await list_all(connection, ROLES, {})).items]
            assert "new" in shown
            assert not [each for each in shown if each.startswith("lost-")]
