"""`portforward` of a Pod or an Agent: connections to ports of the agent's worker, over one WebSocket.

Spoken is `v4.channel.k8s.io` as kubelets speak it, also where the client names no protocol: the n-th port that is asked
for has the channels 2n for data and 2n + 1 for what went wrong; on each the server first names the port, in two bytes,
the lower one first. There is one connection for each port; the socket is closed once all of them are. A message of the
client without data, which says nothing elsewhere, is the end of what it sends.

kubectl's own `port-forward` speaks another protocol, SPDY inside of a WebSocket, which is not served: `choregos
port-forward` and the Python clients speak this one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from choregos.api.node_ports import RunningCommand
from choregos.api.requests import ApiRequest
from choregos.api.rules import channels
from choregos.api.rules.options import forwarded_ports
from choregos.api.rules.status import bad_request
from choregos.api.sockets.permission import require_allowed, require_worker
from choregos.foundation.errors import ChoregosError
from choregos.foundation.tasks import Tasks
from choregos.store.instance import Instance

HOW = (
    f"port forwarding is served over WebSockets that speak {channels.V4}; kubectl's port-forward does not, "
    "so use: choregos port-forward, or kubectl choregos port-forward"
)


async def refuse(call: ApiRequest) -> Response:
    """For a client that asks without a WebSocket: why it may not, or else how it may."""
    _admitted(call)
    raise bad_request(HOW)


async def connect(call: ApiRequest, socket: WebSocket) -> None:
    """Serves a handshake that was admitted.

    Raises:
        ChoregosError: it may not be; the socket has not been accepted.
    """
    instance = _admitted(call)
    offered = socket.scope["subprotocols"]
    if offered and channels.V4 not in offered:
        raise bad_request(HOW)
    ports = forwarded_ports(call.request.query_params.getlist("ports"))
    with call.streams.open(call.flow), contextlib.suppress(WebSocketDisconnect):
        await socket.accept(channels.V4 if offered else None)
        for channel in range(2 * len(ports)):
            await socket.send_bytes(channels.write(channel, ports[channel // 2].to_bytes(2, "little")))
        if await _forward(call, socket, instance, ports):
            await socket.close()


def _admitted(call: ApiRequest) -> Instance:
    """Raises: NotFound; Refusal 403, the namespace does not allow it; 400, the agent is in no worker."""
    instance = call.context.directory.get(call.target.namespace, call.name)
    require_allowed(call)
    require_worker(call, instance, "forward a port of")
    return instance


async def _forward(call: ApiRequest, socket: WebSocket, instance: Instance, ports: tuple[int, ...]) -> bool:
    """Returns whether there is still somebody to take leave of."""
    connections: dict[int, RunningCommand] = {}
    async with contextlib.AsyncExitStack() as stack:
        for number, port in enumerate(ports):
            try:
                connection = await stack.enter_async_context(call.context.nodes.commands.connect(instance, port))
            except ChoregosError as error:
                await socket.send_bytes(channels.write(2 * number + 1, str(error).encode()))
            else:
                connections[number] = connection
        if not connections:
            return True
        tasks = await stack.enter_async_context(Tasks(lambda *_: None))
        inputs = tasks.start(_feed(socket, connections), "input of ports")
        outputs = tasks.start(_show_all(socket, connections), "output of ports")
        with contextlib.suppress(TimeoutError):  # this server ends
            await call.streams.wait(asyncio.wait((inputs, outputs), return_when=asyncio.FIRST_COMPLETED))
        if outputs.done():
            outputs.result()
        return not inputs.done()


async def _feed(socket: WebSocket, connections: Mapping[int, RunningCommand]) -> None:
    """Hands on what the client sends until it is gone."""
    while True:
        received = await socket.receive()
        if received["type"] != "websocket.receive":
            return
        data = received.get("bytes") or (received.get("text") or "").encode()
        number, of_errors = divmod(data[0], 2) if data else (-1, 0)
        if number in connections and not of_errors:
            # What one connection does not take keeps the others of this socket waiting, as there is one line of input.
            with contextlib.suppress(ChoregosError):  # whoever reads it is told the same
                if len(data) > 1:
                    await connections[number].write(data[1:])
                else:
                    await connections[number].finish_input()


async def _show_all(socket: WebSocket, connections: Mapping[int, RunningCommand]) -> None:
    await asyncio.gather(*(_show(socket, number, connection) for number, connection in connections.items()))


async def _show(socket: WebSocket, number: int, connection: RunningCommand) -> None:
    """Hands on what the agent sends until it has closed the connection."""
    status = -1
    try:
        while status < 0:
            output, status = await connection.read()
            for channel, data in output:
                await socket.send_bytes(channels.write(2 * number + (channel != channels.STDOUT), data))
    except ChoregosError as error:
        await socket.send_bytes(channels.write(2 * number + 1, str(error).encode()))
