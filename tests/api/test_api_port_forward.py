"""Connections to ports of an agent over a WebSocket, in the protocol that kubelets and the Python clients speak."""

from __future__ import annotations

from typing import Any

import pytest
from api_sockets import NOBODY, Socket, allow, handshake

from choregos.api.rules import channels
from choregos.api.rules.options import forwarded_ports
from choregos.api.rules.status import Refusal

AGENT = "/apis/choregos.dev/v1/namespaces/default/agents/web-0/portforward"
POD = "/api/v1/namespaces/default/pods/web-0/portforward"
V4 = (channels.V4,)


@pytest.fixture
async def open_to_connections(world: Any) -> Any:
    await world.start_agents(1)
    await allow(world)
    return world


async def named(socket: Socket, *ports: int, protocol: str | None = channels.V4) -> None:
    """Each port is named on its two channels, before anything else."""
    assert await socket.accepted() == protocol
    for number, port in enumerate(ports):
        for channel in (2 * number, 2 * number + 1):
            assert await socket.data() == (channel, port.to_bytes(2, "little"))


async def closed(socket: Socket) -> int:
    message = await socket.next()
    assert message["type"] == "websocket.close", message
    code: int = message["code"]
    return code


@pytest.mark.parametrize("path", [AGENT, POD])
async def test_data_goes_both_ways_until_the_agent_closes(open_to_connections: Any, path: str) -> None:
    async with handshake(open_to_connections, path, {"ports": "8080"}, protocols=V4) as socket:
        await named(socket, 8080)
        socket.send(b"\0hello")
        assert await socket.data() == (0, b"hello")
        socket.send_text("\0text")
        assert await socket.data() == (0, b"text")
        socket.send(b"\0")
        assert await closed(socket) == 1000
    connection = open_to_connections.commands.ports[8080]
    assert connection.heard == [b"hello", b"text", "end"]
    assert connection.ended.is_set()


async def test_a_client_that_names_no_protocol_means_this_one(open_to_connections: Any) -> None:
    async with handshake(open_to_connections, POD, {"ports": "8080"}, protocols=()) as socket:
        await named(socket, 8080, protocol=None)
        socket.send(b"\0hello")
        assert await socket.data() == (0, b"hello")
        socket.leave()


async def test_each_port_has_channels_and_a_life_of_its_own(open_to_connections: Any) -> None:
    query = {"ports": ["8080,9090", "22"]}
    async with handshake(open_to_connections, AGENT, query, protocols=V4) as socket:
        await named(socket, 8080, 9090, 22)
        assert await socket.data() == (5, b"the agent's worker does not listen on port 22")
        socket.send(b"\2second")
        assert await socket.data() == (2, b"second")
        socket.send(b"\2")
        for nothing in (b"\1for a channel of errors", b"\4not connected", b"\x09no channel", b"", b"\xff"):
            socket.send(nothing)
        socket.send(b"\0first")
        assert await socket.data() == (0, b"first")
        socket.send(b"\0!from the node")
        assert await socket.data() == (1, b"!from the node")
        socket.send(b"\0")
        assert await closed(socket) == 1000
    assert all(one.ended.is_set() for one in open_to_connections.commands.ports.values())


async def test_a_port_that_nobody_listens_on_is_told_and_closed(open_to_connections: Any) -> None:
    async with handshake(open_to_connections, AGENT, {"ports": "22"}, protocols=V4) as socket:
        await named(socket, 22)
        assert (await socket.data())[0] == 1
        assert await closed(socket) == 1000


async def test_a_client_that_goes_away_ends_its_connections(open_to_connections: Any) -> None:
    async with handshake(open_to_connections, AGENT, {"ports": "1"}, protocols=V4) as socket:
        await named(socket, 1)
        await open_to_connections.commands.started.wait()
        assert open_to_connections.app._streams._flows == {"admin": 1}
        socket.leave()
    assert open_to_connections.commands.ports[1].ended.is_set()
    assert not open_to_connections.app._streams._flows


async def test_a_node_that_is_lost_is_told_and_the_end_of_the_server_closes(open_to_connections: Any) -> None:
    for lost in (True, False):
        async with handshake(open_to_connections, AGENT, {"ports": "1"}, protocols=V4) as socket:
            await named(socket, 1)
            socket.send(b"\0hello")
            assert await socket.data() == (0, b"hello")
            if lost:
                open_to_connections.commands.ports[1].lose()
                assert await socket.data() == (1, b"node n1 does not answer")
            else:
                await open_to_connections.app.close()
            assert await closed(socket) == 1000


@pytest.mark.parametrize(
    ("path", "query", "protocols", "code", "said"),
    [
        (AGENT, {}, V4, 400, "'ports' is required"),
        (AGENT, {"ports": "0"}, V4, 400, "must be a number from 1 to 65535"),
        (AGENT, {"ports": "80,http"}, V4, 400, "'http' must be a number"),
        (AGENT, {"ports": "1"}, ("SPDY/3.1+portforward.k8s.io",), 400, "use: choregos port-forward"),
        (AGENT.replace("web-0", "none"), {"ports": "1"}, V4, 404, 'agents.choregos.dev "none" not found'),
        (AGENT.replace("web-0", "idle-0"), {"ports": "1"}, V4, 400, "cannot forward a port of agent idle-0"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    open_to_connections: Any, path: str, query: Any, protocols: tuple[str, ...], code: int, said: str
) -> None:
    await open_to_connections.start_agents(1, agent_set="idle", node="", ready=False)
    async with handshake(open_to_connections, path, query, protocols=protocols) as socket:
        refusal = await socket.refused()
    assert refusal[0] == code, refusal
    assert said in refusal[1]


async def test_it_passes_the_gate_and_takes_the_namespaces_leave(world: Any) -> None:
    await world.start_agents(1)
    async with handshake(world, AGENT, {"ports": "1"}, protocols=V4, certificate=NOBODY) as socket:
        code, said = await socket.refused()
    assert (code, 'cannot create resource "agents/portforward"' in said) == (403, True)
    async with handshake(world, AGENT, {"ports": "1"}, protocols=V4) as socket:
        code, said = await socket.refused()
    assert (code, "choregos.dev/exec=allowed" in said) == (403, True)
    await allow(world)
    for method, path in (("GET", AGENT), ("POST", POD)):
        reply = await world.client.request(method, path)
        assert (reply.code, "kubectl choregos port-forward" in reply.json["message"]) == (400, True)


def test_ports_are_counted() -> None:
    assert forwarded_ports(["1,2", " 65535"]) == (1, 2, 65535)
    with pytest.raises(Refusal, match="at most 16"):
        forwarded_ports(["1"] * 17)
