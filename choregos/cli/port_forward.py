"""`choregos port-forward`: ports of this machine that lead to ports on which an agent listens."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

from cyclopts import Parameter

from choregos.cli.output import show, talk
from choregos.cli.session import Session
from choregos.cli.words import UsageError
from choregos.client import Client
from choregos.client.sockets import AgentPort
from choregos.foundation.errors import ChoregosError, Temporary
from choregos.foundation.tasks import Tasks, logged

READ_BYTES_MAX = 64 * 1024
KINDS = ("", "agent", "agents", "ag", "pod", "pods", "po")


async def port_forward(
    agent: str,
    *ports: str,
    address: Annotated[str, Parameter(help="Address of this machine to listen on.")] = "127.0.0.1",
    session: Session = Session(),  # noqa: B008  (immutable)
) -> None:
    """Reach ports that an agent listens on, at ports of this machine, until Ctrl-C.

    Parameters
    ----------
    agent
        agent/NAME, or NAME.
    ports
        [LOCAL:]REMOTE …: `8080:80`, `80` for the same port here, `:80` for any that is free.
    """
    kind, _, name = agent.rpartition("/")
    if kind not in KINDS:
        raise UsageError(f"there is no port of {kind} to reach; name an agent: agent/NAME")
    pairs = [parse_ports(word) for word in ports]
    if not pairs:
        raise UsageError("say which port: [LOCAL:]REMOTE")
    async with session.connect() as client, contextlib.AsyncExitStack() as stack:
        async with client.connect_port(name, pairs[0][1], namespace=session.namespace):
            pass  # what forbids it is told at once, and not to whoever connects first
        forwarder = _Forwarder(client, name, session.namespace)
        await stack.enter_async_context(forwarder.tasks)
        for local, remote in pairs:
            server = await _listen(forwarder, address, local, remote)
            stack.callback(server.close)
            show(f"Forwarding from {_shown(server)} -> {remote}")
        await forwarder.over


def parse_ports(word: str) -> tuple[int, int]:
    """(local, remote) of `8080:80`, `80`, `:80`; a local port of 0 is any that is free.

    Raises:
        UsageError: it is none of these.
    """
    local, colon, remote = word.rpartition(":")
    numbers = [_port(remote), _port(local) if local else 0 if colon else _port(remote)]
    if None in numbers or not numbers[0]:
        raise UsageError(f"{word!r} is no [LOCAL:]REMOTE: ports are numbers from 1 to 65535")
    return int(numbers[1] or 0), int(numbers[0])


def _port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= 0xFFFF else None


async def _listen(forwarder: _Forwarder, address: str, local: int, remote: int) -> asyncio.Server:
    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forwarder.tasks.start(forwarder.forward(reader, writer, remote), f"connection to port {remote}")

    try:
        return await asyncio.start_server(accept, address, local)
    except OSError as error:
        raise Temporary(f"port {local} of {address} cannot be listened on: {error.strerror or error}") from error


def _shown(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Forwarder:
    """
    Attributes:
        over: fails when no connection to the agent will ever be possible.
    """

    def __init__(self, client: Client, agent: str, namespace: str | None) -> None:
        self._client = client
        self._agent = agent
        self._namespace = namespace
        self.tasks = Tasks(on_failure=logged)
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: int) -> None:
        """One connection, until the agent has closed it or this side has gone away."""
        try:
            connecting = self._client.connect_port(self._agent, remote, namespace=self._namespace)
            async with connecting as port, Tasks(on_failure=logged) as tasks:
                tasks.start(_send(reader, port), f"to port {remote}")
                while data := await port.receive():
                    writer.write(data)
                    await writer.drain()
        except OSError:
            return  # whoever has connected is gone
        except Temporary as error:
            talk(f"port {remote}: {error}")
        except ChoregosError as error:
            if not self.over.done():
                self.over.set_exception(error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _send(reader: asyncio.StreamReader, port: AgentPort) -> None:
    with contextlib.suppress(OSError, Temporary):  # whoever receives is told
        while data := await reader.read(READ_BYTES_MAX):
            await port.send(data)
        await port.finish()
