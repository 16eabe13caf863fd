"""The API server on memory logs, a client that speaks ASGI to it, and a real kubectl that speaks TLS to it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from api_nodes import FakeCommands, FakeLogs, FakeUsage
from joserfc.jwk import OKPKey

from choregos.api.access.authenticators import PEER
from choregos.api.access.pace import RefusalLimits
from choregos.api.context import ApiContext, ApiLimits
from choregos.api.node_ports import Nodes
from choregos.api.serve import Serving
from choregos.api.server import ApiServer, build_app, ensure_defaults
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import CALL_ERRORS
from choregos.foundation.ids import SeededIds
from choregos.foundation.tasks import Tasks
from choregos.mesh.routes import Target
from choregos.resources.templates import canonical_digest
from choregos.security.backends.audit_memory import AuditMemory
from choregos.security.pki import Authority
from choregos.security.tokens import Tokens
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence, Write
from choregos.store.resources import ResourceStore
from choregos.wire.instances import AgentRecord, Phase, StatusRecord, TemplateRecord

GROUP = "/apis/choregos.dev/v1"
ADMIN = {"subject": ((("commonName", "admin"),), (("organizationName", "system:masters"),))}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass
class Reply:
    code: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Stream:
    """An answer that is still being written: `line` waits for the next JSON line, `ended` for the end."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._rest = b""
        self.code = 0
        self.started = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.code = message["status"]
            self.started.set()
        else:
            self._chunks.put_nowait(message["body"])
            if not message.get("more_body"):
                self._chunks.put_nowait(None)

    async def raw_line(self) -> bytes | None:
        while b"\n" not in self._rest:
            async with asyncio.timeout(10):
                chunk = await self._chunks.get()
            if chunk is None:
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def line(self) -> Any:
        line = await self.raw_line()
        assert line is not None, "the stream has ended"
        return json.loads(line)

    async def lines_to_end(self) -> list[Any]:
        lines = []
        while (line := await self.raw_line()) is not None:
            lines.append(json.loads(line))
        return lines

    def disconnect(self) -> None:
        self._gone.set()


class Client:
    """Requests to the application as a user with this certificate, and with these headers in each."""

    def __init__(self, app: ApiServer, certificate: Any, headers: Mapping[str, str] | None = None) -> None:
        self._app = app
        self._certificate = certificate
        self._headers = headers or {}

    def as_(self, certificate: Any) -> Client:
        return Client(self._app, certificate)

    def with_headers(self, **headers: str) -> Client:
        return Client(self._app, self._certificate, headers)

    def _scope(self, method: str, path: str, query: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": urlencode(query).encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            PEER: self._certificate,
        }

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        accept: str = "application/json",
        content: str = "application/json",
        **query: Any,
    ) -> Reply:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"accept": accept, "content-type": content, "content-length": str(len(data)), **self._headers}
        messages = [{"type": "http.request", "body": data, "more_body": False}]
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        async with asyncio.timeout(20):
            await self._app(self._scope(method, path, query, headers), receive, send)
        return Reply(
            sent[0]["status"],
            [(name.decode(), value.decode()) for name, value in sent[0]["headers"]],
            b"".join(message.get("body", b"") for message in sent[1:]),
        )

    async def abandon(self, path: str, body: Any, begun: asyncio.Event) -> None:
        """Posts, and goes away once `begun` is set."""
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            raise AssertionError("nobody is there to be answered")

        async with asyncio.timeout(20):
            await self._app(self._scope("POST", path, {}, {}), receive, send)

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.request("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Reply:
        return await self.request("POST", path, body, **options)

    async def put(self, path: str, body: Any, **options: Any) -> Reply:
        return await self.request("PUT", path, body, **options)

    async def patch(self, path: str, body: Any, kind: str = "merge-patch+json", **options: Any) -> Reply:
        return await self.request("PATCH", path, body, content=f"application/{kind}", **options)

    async def delete(self, path: str, body: Any = None, **options: Any) -> Reply:
        return await self.request("DELETE", path, body, **options)

    @asynccontextmanager
    async def stream(self, path: str, accept: str = "application/json", **query: Any) -> AsyncIterator[Stream]:
        stream = Stream()
        async with Tasks() as tasks:
            scope = self._scope("GET", path, query, {"accept": accept})
            running = tasks.start(self._app(scope, stream.receive, stream.send), "stream")
            await stream.started.wait()
            yield stream
            stream.disconnect()
            await running


@dataclass
class Outcome:
    result: Any
    agent: str


@dataclass
class FakeCaller:
    """Answers calls of methods `echo` and, with `result`, `fixed`; any other may be the name of an error."""

    result: Any = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, target: Target, method: str, arguments: Mapping[str, Any], **options: Any) -> Outcome:
        call = {**target._asdict(), "method": method, "arguments": arguments, **options}
        self.seen.append(call)
        self.started.set()
        if call["method"] == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if call["method"] in CALL_ERRORS:
            raise CALL_ERRORS[call["method"]](
                "it went wrong", agent="default/a-0", remote_type="KeyError", remote_traceback="Traceback …"
            )
        if call["method"] == "fixed":
            return Outcome(self.result, "a-0")
        return Outcome({"echo": call["arguments"]}, call["agent"] or "a-0")


@dataclass
class World:
    """A server and what stands behind it."""

    app: ApiServer
    client: Client
    context: ApiContext
    caller: FakeCaller
    logs: FakeLogs
    usage: FakeUsage
    commands: FakeCommands
    agents_log: MemoryLog
    audit: AuditMemory
    writer: InstanceWriter
    fence: Fence

    async def start_agents(self, count: int, *, agent_set: str = "web", node: str = "n1", ready: bool = True) -> None:
        """Agents `<set>-0` … as the region's leader and a node would have made them."""
        spec = {"name": "web", "capabilities": ["serve"], "labels": {"tier": "gold"}, "runtime": {"python": "m:C"}}
        digest, encoded = canonical_digest(spec)
        await self.writer.put_templates([("default", TemplateRecord(1, digest, encoded))], self.fence)
        names = [f"{agent_set}-{number}" for number in range(count)]
        uid = self.context.ids.uid
        records = {
            name: AgentRecord(1, uid(), agent_set, f"{agent_set}-uid", digest, node, 1, 1_000_000) for name in names
        }
        await self.writer.create_agents([("default", name, record) for name, record in records.items()], self.fence)
        if ready:
            await self.writer.put_statuses([("default", name, running(record)) for name, record in records.items()])
        await self.context.directory.wait_for(self.writer.revision)


def running(record: AgentRecord) -> StatusRecord:
    return StatusRecord(1, record.uid, record.binding, Phase.RUNNING, True, "host-1", 0, 2_000_000, "Started")


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    clock, ids = SystemClock(), SeededIds(7)
    agents_log = MemoryLog(clock)
    epoch = await agents_log.append(Write("al.local.region.epoch", b""))
    fence = Fence("al.local.region.fence", "al.local.region.epoch", epoch)
    async with (
        ResourceStore(MemoryLog(clock), clock) as resources,
        ResourceStore(MemoryLog(clock), clock) as events,
        Directory(agents_log, "local", clock) as directory,
    ):
        caller, logs, usage, commands = FakeCaller(), FakeLogs(), FakeUsage(), FakeCommands()
        writer = InstanceWriter(agents_log, "local")
        tokens = Tokens(OKPKey.generate_key("Ed25519"), clock, ids)
        audit = AuditMemory()
        context = ApiContext(
            resources,
            events,
            directory,
            writer,
            caller,
            Nodes(logs, usage, commands),
            clock,
            ids,
            tokens,
            audit,
            audit,
            ApiLimits(refusals=RefusalLimits(burst=1_000_000)),
        )
        await ensure_defaults(context)
        app = build_app(context)
        yield World(app, Client(app, ADMIN), context, caller, logs, usage, commands, agents_log, audit, writer, fence)
        await app.close()


def cluster(name: str = "support", **changes: Any) -> dict[str, Any]:
    """A small AgentCluster manifest."""
    spec = {"agents": [{"name": "chat", "replicas": 1, "runtime": {"python": "m:C"}}]}
    metadata = {"name": name, **changes.pop("metadata", {})}
    return {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "metadata": metadata, "spec": spec, **changes}


def node(name: str, **labels: str) -> dict[str, Any]:
    """An AgentNode manifest: small, cluster-scoped, and without finalizers."""
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "metadata": metadata, "spec": {"region": "local"}}


# A real kubectl


@dataclass
class Result:
    code: int
    out: str
    error: str


class Kubectl:
    """Runs one version of kubectl as one user."""

    def __init__(self, program: Path, kubeconfig: Path, cache: Path) -> None:
        self.program = program
        self.environment = {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(cache), "PATH": os.environ["PATH"]}
        self.environment["HOME"] = str(cache)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            self.program, *arguments, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def run(self, *arguments: str, stdin: str = "") -> Result:
        process = await self.start(*arguments)
        async with asyncio.timeout(60):
            out, error = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), error.decode())

    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that succeeds."""
        result = await self.run(*arguments, stdin=stdin)
        assert result.code == 0, f"kubectl {' '.join(arguments)}: {result.error}"
        return result.out


@dataclass
class Served:
    """The API server over TLS."""

    serving: Serving
    authority: Authority


@dataclass
class Cluster(Served):
    """And users of it who have a kubectl."""

    user: Callable[[str, str], Kubectl]
