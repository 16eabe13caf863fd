"""Several API servers of one machine: started, killed and asked one by one; and what a client of them may see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from email.message import Message
from http.client import HTTPSConnection
from typing import Any

import psutil
import pytest
from e2e_machine import Object, UpProcess, until

from choregos.assembly.machine.layout import DataDirectory
from choregos.client.connection import Connection
from choregos.foundation.errors import ChoregosError, DeadlineExceeded, NotFound, Temporary
from choregos.security.kubeconfig import ApiAccess, load_kubeconfig

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
AWAY = (Temporary, DeadlineExceeded)
"""A server or the store cannot be reached: what was asked for has happened or not."""


def seeded() -> random.Random:
    """Dice that fall again as they did if CHOREGOS_SEED is what was printed."""
    seed = int(os.environ.get("CHOREGOS_SEED", "0")) or random.randrange(1, 2**32)
    print(f"CHOREGOS_SEED={seed}")
    return random.Random(seed)


class Replica:
    """An API server beside the machine's own, which only `start` starts again."""

    def __init__(self, machine: UpProcess) -> None:
        self._machine = machine
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        self.process = self._machine.beside("api", "--api-port", str(self.port))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0


class Servers:
    """The machine's own API server, which `up` restarts, and others beside it.

    Attributes:
        urls: of all of them, the machine's own first.
    """

    def __init__(self, machine: UpProcess, beside: int) -> None:
        self.machine = machine
        self.replicas = [Replica(machine) for _ in range(beside)]
        self.access = load_kubeconfig([machine.root / "kubeconfig"])
        self.urls = [self.access.server, *(replica.url for replica in self.replicas)]

    def kill_own(self) -> psutil.Process:
        """Kills the machine's own server."""
        [own] = [each for each in self.machine.named("api") if each.ppid() == self.machine.process.pid]
        own.kill()
        return own

    def connection(self, number: int, access: ApiAccess | None = None) -> Connection:
        return Connection(replace(access or self.access, server=self.urls[number]))

    @asynccontextmanager
    async def connections(self, access: ApiAccess | None = None) -> AsyncIterator[list[Connection]]:
        """One to each server."""
        async with contextlib.AsyncExitStack() as stack:
            made = [self.connection(number, access) for number in range(len(self.urls))]
            for connection in made:
                stack.push_async_callback(connection.close)
            yield made

    def ask(self, url: str, method: str, path: str, body: Object | None = None) -> tuple[int, Message, Any]:
        """The code, the headers and the body of one answer to the administrator."""
        pki = DataDirectory(self.machine.root).pki
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "user-admin.pem")
        connection = HTTPSConnection(url.removeprefix("https://"), context=context, timeout=30)
        with contextlib.closing(connection):
            headers = {"Content-Type": MERGE if method == "PATCH" else "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            content = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, answer.headers, json.loads(content) if is_json else content

    async def until_all_answer(self) -> None:
        async with self.connections() as connections:
            for connection in connections:
                await until_answers(connection)


@contextlib.contextmanager
def servers_of(machine: UpProcess, beside: int) -> Iterator[Servers]:
    """The machine with so many API servers more, all of them serving."""
    servers = Servers(machine, beside)
    try:
        for each in servers.replicas:
            each.start()
        asyncio.run(servers.until_all_answer())
        yield servers
        for each in servers.replicas:
            each.stop()
    finally:
        for each in servers.replicas:
            each.process.kill()
            each.process.wait()


async def until_answers(connection: Connection) -> None:
    async def answers() -> bool:
        try:
            await connection.request("GET", CONFIGMAPS)
        except AWAY:
            return False
        return True

    await until(answers, f"{connection.server} answers")


def configmap(name: str, value: int, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": {"value": str(value)},
    }


def revision(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def name(obj: Object) -> str:
    found: str = obj["metadata"]["name"]
    return found


# Writing and reading back


class Author:
    """One object, written by one client through any server and read back from any: each answer is checked.

    What was told to be stored is a floor under every later answer; a write whose outcome is unknown may have happened
    or not, until somebody has seen it.
    """

    def __init__(self, name: str, servers: Sequence[Connection], dice: random.Random) -> None:
        self.name = name
        self._servers = servers
        self._dice = dice
        self._value = 0  # the last that was tried
        self._possible: list[int | None] = [None]  # what may be stored, None for nothing; the first was acknowledged
        self._revision = 0  # the newest that was shown
        self.revisions: list[int] = []  # those that were acknowledged, deletions excepted
        self.written = 0
        self.read = 0
        self.unknown = 0
        self.unseen = 0  # writes that were acknowledged and that a watch has not shown within its time

    async def step(self) -> None:
        """A write, and then two reads of it, each anywhere."""
        if self._dice.random() < 0.3:
            await self._write_watched(self._anyone())
        else:
            await self._write()
        for look in self._dice.sample((self._get, self._list, self._watch), 2):
            try:
                await look(self._anyone())
                self.read += 1
            except AWAY:
                await asyncio.sleep(0.01)

    def _anyone(self) -> Connection:
        return self._dice.choice(self._servers)

    async def _write(self) -> None:
        self._value += 1
        wanted: int | None = self._value
        server = self._anyone()
        try:
            if self._possible[0] is None:
                answer = await server.request("POST", CONFIGMAPS, body=configmap(self.name, self._value, by=self.name))
            elif self._dice.random() < 0.15:
                wanted, answer = None, None
                await server.request("DELETE", f"{CONFIGMAPS}/{self.name}")
            else:
                change = {"data": {"value": str(self._value)}}
                answer = await server.request("PATCH", f"{CONFIGMAPS}/{self.name}", body=change, content_type=MERGE)
        except AWAY:
            self._possible.append(wanted)
            self.unknown += 1
            await asyncio.sleep(0.01)
        except ChoregosError as error:
            # Only what is unknown may be in the way: an object that is there after all, or not.
            if len(self._possible) == 1:
                raise AssertionError(f"{self.name} is {self._possible}") from error
            await self._settle()
        else:
            self._possible = [wanted]
            self.written += 1
            if answer is not None:
                assert revision(answer) > self._revision
                self._revision = revision(answer)
                self.revisions.append(self._revision)

    async def _settle(self) -> None:
        with contextlib.suppress(*AWAY):
            await self._get(self._anyone())

    def _check(self, found: Object | None) -> None:
        value = int(found["data"]["value"]) if found is not None else None
        assert value in self._possible, f"{self.name}: {value} was read, but {self._possible} may be stored"
        if found is not None:
            assert revision(found) >= self._revision, f"{self.name}: older than what was shown before"
            self._revision = revision(found)
        # What was seen is there to stay, though not what was tried before it.
        self._possible = [value, *self._possible[self._possible.index(value) + 1 :]]

    async def _get(self, server: Connection) -> None:
        try:
            found = await server.request("GET", f"{CONFIGMAPS}/{self.name}")
        except NotFound:
            found = None
        self._check(found)

    async def _list(self, server: Connection) -> None:
        listing = await server.request("GET", CONFIGMAPS, query={"labelSelector": f"by={self.name}"})
        assert int(listing["metadata"]["resourceVersion"]) >= self._revision
        self._check(next(iter(listing["items"]), None))

    async def _watch(self, server: Connection) -> None:
        """A watch that names no revision begins with what there is."""
        query = {
            "watch": "true",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
            "labelSelector": f"by={self.name}",
        }
        found: Object | None = None
        async with contextlib.aclosing(server.lines(CONFIGMAPS, query, silence_s_max=30)) as lines:
            async for line in lines:
                event = json.loads(line)
                if event["type"] == "BOOKMARK":
                    self._check(found)
                    return
                found = event["object"]
        raise Temporary("the watch ended before it had begun")

    async def _write_watched(self, server: Connection) -> None:
        """A watch from what was shown by another server shows the next write, and that only."""
        settled, known = len(self._possible) == 1, self._revision
        query = {
            "watch": "true",
            "timeoutSeconds": "4",
            "resourceVersion": str(known),
            "labelSelector": f"by={self.name}",
        }
        async with contextlib.aclosing(server.lines(CONFIGMAPS, query, silence_s_max=30)) as lines:
            first = asyncio.ensure_future(anext(lines, b""))
            began_at = time.monotonic()
            await self._write()
            was_quick = time.monotonic() - began_at < 1
            # Not cancelled: a TLS handshake that is cancelled leaves its socket to the garbage collector.
            try:
                line = await first
            except AWAY:
                return
            if not settled or not known or len(self._possible) > 1:
                return
            if not line:
                self.unseen += was_quick
                return
            event = json.loads(line)
            if event["type"] == "ERROR":
                assert event["object"]["code"] == 410, event  # that server has just been started
            elif event["type"] != "DELETED":
                assert revision(event["object"]) == self._revision, (event, known, self._revision)
            self.read += 1


@asynccontextmanager
async def writing_and_reading(
    servers: Sequence[Connection], dice: random.Random, who: str, authors: int
) -> AsyncIterator[list[Author]]:
    """So many authors at work for as long as the context is open."""
    async with asyncio.TaskGroup() as group:
        ended = False

        async def work(author: Author) -> None:
            while not ended:
                await author.step()

        made = [Author(f"{who}-{number}", servers, random.Random(dice.random())) for number in range(authors)]
        for author in made:
            group.create_task(work(author))
        yield made
        ended = True


async def until_each_has_written(authors: list[Author], more: int) -> None:
    goals = {author.name: author.written + more for author in authors}

    async def written() -> bool:
        return all(author.written >= goals[author.name] for author in authors)

    await until(written, f"each has written {more} times more")


def summary(authors: Sequence[Author]) -> dict[str, Any]:
    return {each: sum(getattr(author, each) for author in authors) for each in ("written", "read", "unknown", "unseen")}


@pytest.fixture
def dice() -> random.Random:
    return seeded()
