"""`exec` of a Pod: a command beside an agent, its streams over one WebSocket.

Invariants: a client that does not speak the protocol ends its command. What is not taken by one side is not asked of
the other, so neither can fill this process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from choregos.api.node_ports import Command, RunningCommand
from choregos.api.requests import ApiRequest
from choregos.api.rules import channels
from choregos.api.rules.options import CommandOptions, command_options
from choregos.api.rules.status import bad_request
from choregos.api.sockets.permission import require_allowed, require_worker
from choregos.foundation.errors import ChoregosError
from choregos.foundation.tasks import Tasks
from choregos.resources.kinds.projected.pod import CONTAINER
from choregos.store.instance import Instance

PROTOCOL_ERROR = 1002


async def refuse(call: ApiRequest) -> Response:
    """For a client that asks without a WebSocket: why it may not, or else how it may."""
    _checked(call)
    raise channels.upgrade_required()


async def connect(call: ApiRequest, socket: WebSocket) -> None:
    """Serves a handshake that was admitted.

    Raises:
        ChoregosError: it may not run; the socket has not been accepted.
    """
    instance, options = _checked(call)
    protocol = channels.choose(socket.scope["subprotocols"])
    with call.streams.open(call.flow), contextlib.suppress(WebSocketDisconnect):
        await socket.accept(protocol)
        # The client's sign that it is connected, on a channel that it has.
        first = channels.STDOUT if options.stdout else channels.STDERR if options.stderr else channels.ERROR
        await socket.send_bytes(channels.write(first, b""))
        last = await _run(call, _Client(socket, protocol), instance, options)
        if last is not None:
            await socket.send_bytes(last)
            await socket.close()


def _checked(call: ApiRequest) -> tuple[Instance, CommandOptions]:
    """Raises: NotFound; Refusal 403, the namespace does not allow it; 400, it makes no sense."""
    options = command_options(call.query, call.request.query_params.getlist("command"))
    instance = call.context.directory.get(call.target.namespace, call.name)
    require_allowed(call)
    if options.container not in ("", CONTAINER):
        raise bad_request(f"container {options.container} is not valid for pod {call.name}; it has one, {CONTAINER}")
    require_worker(call, instance, "exec into")
    return instance, options


@dataclass(frozen=True, slots=True)
class _Client:
    """The other side of the socket."""

    socket: WebSocket
    protocol: str


async def _run(call: ApiRequest, client: _Client, instance: Instance, options: CommandOptions) -> bytes | None:
    """The last message; None if there is nobody to hear it."""
    command = Command(options.arguments, options.tty, options.stdin)
    try:
        async with call.context.nodes.commands.run(instance, command) as running, Tasks(lambda *_: None) as tasks:
            inputs: asyncio.Task[None] = tasks.start(_feed(client, running), "input of a command")
            outputs: asyncio.Task[int] = tasks.start(_show(client, running, options), "output of a command")
            await _first(call, inputs, outputs)
            if outputs.done():
                return channels.ended(outputs.result())
            if inputs.done():
                inputs.result()  # says what went wrong, if the client is not just gone
                return None
            return channels.failed("the API server has ended")
    except ChoregosError as error:
        return channels.failed(str(error))


async def _first(call: ApiRequest, *tasks: asyncio.Task[Any]) -> None:
    """Returns when one of the tasks has ended, or this server does."""
    waiting: Awaitable[Any] = asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    with contextlib.suppress(TimeoutError):
        await call.streams.wait(waiting)


async def _feed(client: _Client, running: RunningCommand) -> None:
    """Hands on what the client sends until it is gone. Goes on after the end of input, for the size of a terminal."""
    while True:
        received = await client.socket.receive()
        if received["type"] != "websocket.receive":
            return
        data, text = received.get("bytes"), received.get("text")
        try:
            # Some clients send as text what they believe to be text.
            message = channels.read(data if data is not None else (text or "").encode(), client.protocol)
        except ValueError as error:
            await client.socket.close(PROTOCOL_ERROR, str(error)[:100])
            return
        match message:
            case channels.Data():
                await running.write(message.data)
            case channels.EndOfInput():
                await running.finish_input()
            case channels.Size():
                await running.resize(message.columns, message.rows)


async def _show(client: _Client, running: RunningCommand, options: CommandOptions) -> int:
    """Hands on what the command writes until it has ended; returns its exit status."""
    wanted = {channels.STDOUT: options.stdout, channels.STDERR: options.stderr}
    while True:
        output, status = await running.read()
        for channel, data in output:
            if wanted.get(channel):
                await client.socket.send_bytes(channels.write(channel, data))
        if status >= 0:
            return status
