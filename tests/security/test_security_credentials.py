"""The bus users: their passwords are kept, and a real nats-server lets each do its own work and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.errors import NoRespondersError

from choregos.foundation.bus.connection import Bus, BusAddress, connect
from choregos.foundation.errors import Denied, Permanent
from choregos.foundation.ids import SystemIds
from choregos.foundation.tasks import Tasks
from choregos.security.credentials import (
    BusCredentials,
    BusServer,
    BusUser,
    load_or_create,
    render_configuration,
    write_configuration,
)
from choregos.store.backends.jetstream import JetStreamLog
from choregos.store.port import Write
from choregos.testing.nats_server import find_binary
from choregos.wire.subjects import agents_stream, agents_subjects


def test_passwords_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "nats" / "credentials.json"
    made = load_or_create(path, SystemIds())
    assert load_or_create(path, SystemIds()) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len({made.password(user) for user in BusUser}) == len(BusUser)


def test_passwords_are_in_no_repr() -> None:
    credentials = BusCredentials(control="s3cret-1", api="s3cret-2", node="s3cret-3", worker="s3cret-4")
    text = repr(credentials) + repr(BusServer(Path(), credentials=credentials))
    assert "s3cret" not in text


@pytest.mark.parametrize("damage", [b"", b'{"control": "x"', b'{"control": 1}'])
def test_damaged_credentials_are_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "credentials.json"
    path.write_bytes(damage)
    with pytest.raises(Permanent, match=r"cannot be read.*Remove the file"):
        load_or_create(path, SystemIds())


def test_awkward_paths_are_quoted() -> None:
    text = render_configuration(BusServer(Path('/a "b" \\c$d')))
    assert r'store_dir: "/a \"b\" \\c$d"' in text


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[BusUser, BusAddress]]:
    """The address of a real server, as each user."""
    credentials = load_or_create(tmp_path / "nats" / "credentials.json", SystemIds())
    server = BusServer(
        store_directory=tmp_path / "nats" / "store",
        pid_file=tmp_path / "nats" / "pid",
        port=-1,
        credentials=credentials,
    )
    configuration = tmp_path / "nats" / "nats-server.conf"
    write_configuration(configuration, server)
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
    with subprocess.Popen([find_binary(), "-c", str(configuration)], stderr=subprocess.PIPE) as process:
        try:
            url = "nats://" + _listening_on(process)
            assert int((tmp_path / "nats" / "pid").read_text()) == process.pid
            yield {user: BusAddress((url,), user, credentials.password(user)) for user in BusUser}
        finally:
            process.terminate()


def _listening_on(process: subprocess.Popen[bytes]) -> str:
    """The address in the server's log, read up to where it says that it is ready."""
    assert process.stderr is not None
    address = ""
    for line in process.stderr:
        if b"Listening for client connections on" in line:
            address = line.decode().split()[-1]
        if b"Server is ready" in line:
            return address
    raise AssertionError("nats-server ended before it was ready")


async def allowed(bus: Bus, subject: str) -> bool:
    """Whether the server lets `bus` publish there: a refused request is never answered, not even "nobody is there"."""
    outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def failed(error: Exception) -> None:
        if "permissions violation" in str(error) and not outcome.done():
            outcome.set_result(False)

    async def ask() -> None:
        with contextlib.suppress(NoRespondersError):
            await bus.client.request(subject, b"", timeout=30)
        if not outcome.done():
            outcome.set_result(True)

    bus.client._error_cb = failed
    async with Tasks() as tasks:
        tasks.start(ask(), "request")
        return await outcome


CALLS = "c.local.default.w1"
CREATE = "$JS.API.STREAM.CREATE.X"
READ = "$JS.API.STREAM.MSG.GET.X"
DIRECT = "$JS.API.DIRECT.GET.X"
CONSUMER = "$JS.API.CONSUMER.CREATE.X"
AGENT = "a.local.default.x"
STATUS = "as.local.default.x"
NO_STATUS = "as.local.default.x.extra"
OWN_LEASE = "al.local.node-n1.lease"
LEADERSHIP = "al.local.region.lease"
OBJECT = "o.agentclusters.default.x"
OWN_NODE = "o.agentnodes._.n1"
EVENT = "oe.events.default.x"
DELETION = "ad.local.default.x"
SUBJECTS = {
    *(CALLS, CREATE, READ, DIRECT, CONSUMER, AGENT, STATUS, NO_STATUS, OWN_LEASE, LEADERSHIP),
    *(OBJECT, OWN_NODE, EVENT, DELETION),
}

MAY = {
    BusUser.CONTROL: SUBJECTS - {CALLS},
    BusUser.API: {CALLS, READ, DIRECT, CONSUMER, OBJECT, OWN_NODE, EVENT, DELETION},
    BusUser.NODE: {CALLS, READ, DIRECT, CONSUMER, STATUS, OWN_LEASE, OWN_NODE, EVENT},
    BusUser.WORKER: {CALLS},
}


@pytest.mark.real
@pytest.mark.parametrize("user", list(BusUser))
async def test_each_user_may_do_its_own_work_and_nothing_else(served: dict[BusUser, BusAddress], user: BusUser) -> None:
    async with connect(served[user], "test") as bus:
        assert {subject for subject in sorted(SUBJECTS) if await allowed(bus, subject)} == MAY[user]


@pytest.mark.real
async def test_every_user_that_calls_is_answered_by_a_worker(served: dict[BusUser, BusAddress]) -> None:
    async with connect(served[BusUser.WORKER], "worker") as worker:

        async def answer(message: object) -> None:
            await message.respond(b"done")  # type: ignore[attr-defined]

        await worker.client.subscribe(CALLS, cb=answer)
        await worker.client.flush()
        for user in (BusUser.API, BusUser.NODE, BusUser.WORKER):
            async with connect(served[user], "caller") as caller:
                assert (await caller.client.request(CALLS, b"", timeout=10)).data == b"done"


@pytest.mark.real
async def test_a_worker_cannot_listen_to_the_answers_of_others(served: dict[BusUser, BusAddress]) -> None:
    async with connect(served[BusUser.WORKER], "worker") as worker, connect(served[BusUser.CONTROL], "c") as control:
        refused = asyncio.Event()

        async def failed(error: Exception) -> None:
            if "permissions violation" in str(error):
                refused.set()

        worker.client._error_cb = failed
        for subject in ("_INBOX_control.>", ">", "$JS.>"):
            refused.clear()
            await worker.client.subscribe(subject)
            await asyncio.wait_for(refused.wait(), 10)
        assert control.connected


@pytest.mark.real
async def test_nobody_gets_in_without_a_password(served: dict[BusUser, BusAddress]) -> None:
    servers = served[BusUser.WORKER].servers
    for address in (BusAddress(servers), BusAddress(servers, "control", "guess")):
        with pytest.raises(Denied):
            async with connect(address, "stranger"):
                pass


@pytest.mark.real
async def test_a_node_reads_the_streams_and_writes_its_own_records(served: dict[BusUser, BusAddress]) -> None:
    async with connect(served[BusUser.CONTROL], "control") as control, connect(served[BusUser.NODE], "node") as node:
        async with JetStreamLog(control, agents_stream("local")) as theirs:
            await theirs.provision(agents_subjects("local"))
            await theirs.append(Write(AGENT, b"spec"))
        async with JetStreamLog(node, agents_stream("local")) as log:
            first = await log.append(Write(STATUS, b"one"))
            await log.append_batch([Write(STATUS, b"two", expected=first), Write(OWN_LEASE, b"mine")])
            last = await log.last(STATUS)
            assert last is not None
            assert last.data == b"two"
            assert await log.subjects() == {AGENT, STATUS, OWN_LEASE}
            async with contextlib.aclosing(log.tail()) as tail:
                seen: list[str] = []
                while len(seen) < 3:
                    seen += [record.subject for record in (await anext(tail)).records]
            assert seen == [AGENT, STATUS, OWN_LEASE]
