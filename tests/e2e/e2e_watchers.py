"""Those who watch: a client that knows nothing but a revision, ours, kubectl; and what the log says they must show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from e2e_machine import BIN, Object, UpProcess, until
from e2e_replicas import AWAY, CONFIGMAPS, Servers, name, revision

from choregos.assembly.machine.layout import DataDirectory
from choregos.assembly.services.running import bus_address
from choregos.client import Client
from choregos.client.connection import Connection
from choregos.client.watching import list_all
from choregos.foundation.bus.connection import connect
from choregos.foundation.errors import Expired
from choregos.foundation.tasks import Tasks
from choregos.security.credentials import BusUser
from choregos.store.backends.jetstream import JetStreamLog
from choregos.wire import subjects

GET = ("get", "configmaps", "-w", "-o", "json")


@dataclass(frozen=True)
class Seen:
    """One change, as the log has it or as a watch has shown it."""

    type: str
    name: str
    revision: int


@asynccontextmanager
async def history(machine: UpProcess, resource: str = "configmaps") -> AsyncIterator[list[Seen]]:
    """All that is written to the objects of a resource while the context is open, from the log itself."""
    directory = DataDirectory(machine.root)
    config = directory.load_config()
    assert config is not None
    written: list[Seen] = []
    present: set[str] = set()

    async def follow(records: JetStreamLog, after: int) -> None:
        async for batch in records.tail((f"o.{resource}.>",), after=after):
            for record in batch.records:
                changed = subjects.untoken(record.subject.split(".")[3])
                kind = "DELETED" if record.tombstone else "MODIFIED" if changed in present else "ADDED"
                (present.discard if record.tombstone else present.add)(changed)
                written.append(Seen(kind, changed, record.sequence))

    address = bus_address(directory, config, BusUser.CONTROL)
    async with (
        connect(address, "history") as bus,
        JetStreamLog(bus, subjects.RESOURCES_STREAM) as records,
        Tasks() as tasks,
    ):
        for subject in await records.subjects(f"o.{resource}.>"):
            last = await records.last(subject)
            if last is not None and not last.tombstone:
                present.add(subjects.untoken(subject.split(".")[3]))
        tasks.start(follow(records, await records.newest()), "history")
        yield written


@dataclass(frozen=True)
class Picture:
    """A list, and how much a watch had shown before.

    Attributes:
        items: revision of each object.
    """

    shown: int
    revision: int
    items: dict[str, int]


@dataclass
class RawWatch:
    """A client that knows a revision and nothing else: it goes on from there, at this server or at the next one.

    Attributes:
        servers: it asks the first until that fails, then the next, and so on.
        same_log: the store stays the one it is, so a later list is never of an earlier revision.
        seen: what it was shown, in order.
        pictures: what it has listed: at first, and each time that it had to list again.
        broken: how often its connection ended.
    """

    servers: Sequence[Connection]
    path: str = CONFIGMAPS
    query: Object = field(default_factory=dict)
    same_log: bool = True
    revision: int = 0
    seen: list[Seen] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    broken: int = 0

    async def begin(self) -> None:
        """Looks at the present."""
        await self._list(self.servers[0])

    async def follow(self) -> None:
        turn = 0
        while True:
            server = self.servers[turn % len(self.servers)]
            try:
                await self._read(server)
            except Expired:
                try:
                    await self._list(server)
                except AWAY:
                    turn += 1
            except AWAY:
                turn += 1
                await asyncio.sleep(0.02)
            self.broken += 1

    async def _read(self, server: Connection) -> None:
        query = {**self.query, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": str(self.revision)}
        async with contextlib.aclosing(server.lines(self.path, query, silence_s_max=None)) as lines:
            async for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Expired(event["object"]["message"])
                self.revision = revision(event["object"])
                if event["type"] != "BOOKMARK":
                    self.seen.append(Seen(event["type"], name(event["object"]), self.revision))

    async def _list(self, server: Connection) -> None:
        listing = await list_all(server, self.path, self.query)
        assert int(listing.revision) >= self.revision or not self.same_log, (
            "the list is older than what was shown before"
        )
        self.revision = int(listing.revision)
        items = {name(item): revision(item) for item in listing.items}
        self.pictures.append(Picture(len(self.seen), self.revision, items))


class Program:
    """A program that watches and prints what it sees; it is started again when it ends, at the next server."""

    def __init__(self, machine: UpProcess, urls: Sequence[str], out: Path, *argv: str) -> None:
        self._machine = machine
        self._urls = urls
        self._argv = argv
        self._out = out
        self.ends = 0
        self.runs: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None

    def look_after(self) -> None:
        """Starts it if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        self.ends += self._process is not None
        url = self._urls[len(self.runs) % len(self._urls)]
        self.runs.append(self._out.with_suffix(f".{len(self.runs)}"))
        with self.runs[-1].open("wb") as out:
            self._process = subprocess.Popen(
                [str(BIN / self._argv[0]), "--server", url, *self._argv[1:]],
                env=self._machine.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
            )

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def shown(self) -> list[list[Seen]]:
        """What each run has printed."""
        return [list(_documents(run.read_text())) for run in self.runs]


def _documents(text: str) -> Iterator[Seen]:
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        try:
            found, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            return  # it is still being written
        text = text[end:]
        kind, changed = (found["type"], found["object"]) if "type" in found and "object" in found else ("", found)
        for item in changed.get("items", (changed,)):
            yield Seen(kind, name(item), revision(item))


async def watch_with_client(client: Client, seen: list[Seen]) -> None:
    async with contextlib.aclosing(client.watch("configmaps")) as events:
        async for event in events:
            seen.append(Seen(event.type, name(event.object), revision(event.object)))


class Crowd:
    """All who watch in one test; a context manager that begins with the present.

    Args:
        clients: URLs, one for each `choregos.Client`.
    """

    def __init__(
        self, servers: Servers, raws: Sequence[RawWatch], clients: Sequence[str], programs: Sequence[Program]
    ) -> None:
        self._servers = servers
        self.raws = raws
        self._urls = clients
        self.told: list[list[Seen]] = [[] for _ in clients]
        self.programs = programs
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Crowd:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client(url)) for url in self._urls]
            for program in self.programs:
                stack.callback(program.end)
            self.look_after_programs()
            tasks = await stack.enter_async_context(Tasks())
            for raw in self.raws:
                await raw.begin()
                tasks.start(raw.follow(), "watch")
            for client, seen in zip(clients, self.told, strict=True):
                tasks.start(watch_with_client(client, seen), "watch")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _client(self, url: str) -> Client:
        return Client.from_kubeconfig(self._servers.machine.root / "kubeconfig", server=url)

    def look_after_programs(self) -> None:
        for program in self.programs:
            program.look_after()

    async def until_all_is_shown(self, truth: dict[str, int]) -> None:
        """Until everybody has come to what there is now; then nothing was shown twice, or out of order.

        Args:
            truth: revision of each object.
        """
        newest = max(truth.values())

        async def arrived() -> bool:
            return all(raw.revision >= newest for raw in self.raws)

        await until(arrived, "every watch has come as far as the log")
        for raw in self.raws:
            for before, after in pairwise(raw.seen):
                assert before.revision < after.revision, (before, after)
            first = [Seen("ADDED", each, at) for each, at in raw.pictures[0].items.items()]
            if len(raw.pictures) == 1:
                check_objects([*first, *raw.seen], truth)
        for seen in self.told:
            await until_passes(lambda seen=seen: check_objects(seen, truth))  # type: ignore[misc]
        for program in self.programs:
            await until_passes(lambda program=program: check_runs(program.shown(), truth))  # type: ignore[misc]


def check_objects(seen: Sequence[Seen], truth: dict[str, int]) -> None:
    """Each object's states come in their order, none twice, and the last of each is the one there is.

    Args:
        truth: revision of each object that there is.
    """
    last: dict[str, Seen] = {}
    for event in seen:
        before = last.get(event.name)
        assert before is None or before.revision < event.revision or event.type == "DELETED", (before, event)
        assert event.type != "DELETED" or before is None or before.type != "DELETED", (before, event)
        last[event.name] = event
    present = {each: event.revision for each, event in last.items() if event.type != "DELETED"}
    assert present == truth


def check_against(raw: RawWatch, written: Sequence[Seen]) -> None:
    """What a watch has shown is what the log says, from one list to the next, and each list is what it said then."""
    ends = [*(picture.shown for picture in raw.pictures[1:]), len(raw.seen)]
    for picture, end in zip(raw.pictures, ends, strict=True):
        part = raw.seen[picture.shown : end]
        last = part[-1].revision if part else 0
        assert part == [each for each in written if picture.revision < each.revision <= last]
        then = {each.name: each for each in written if each.revision <= picture.revision}
        for each in then.values():
            assert picture.items.get(each.name) == (None if each.type == "DELETED" else each.revision)


def check_runs(runs: Sequence[Sequence[Seen]], truth: dict[str, int]) -> None:
    """Of a program that lists whenever it is started, or that tells no types: no step back, and the end is right."""
    newest: dict[str, int] = {}
    for run in runs:
        for event in run:
            assert event.revision >= newest.get(event.name, 0), event
            newest[event.name] = event.revision
    for each, at in truth.items():
        assert newest.get(each) == at


async def until_passes(check: Callable[[], None], timeout_s: float = 20.0) -> None:
    """Until the check passes; what it says when it never does."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            check()
        except AssertionError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def truth_of(server: Connection) -> dict[str, int]:
    return {name(item): revision(item) for item in (await list_all(server, CONFIGMAPS, {})).items}
