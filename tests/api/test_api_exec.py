from __future__ import annotations

from typing import Any

import msgspec
import pytest
from api_sockets import NOBODY, allow, handshake
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.rules import channels

PODS = "/api/v1/namespaces/default/pods"
V5, V4 = channels.V5, channels.V4
CAT = {"command": ["cat", "-u"], "stdin": "true"}


@pytest.fixture
async def open_to_commands(world: Any) -> Any:
    await world.start_agents(1)
    await allow(world)
    return world


@pytest.mark.parametrize(("offered", "spoken"), [((V5,), V5), ((V4,), V4), (("x", V4, V5), V5)])
async def test_streams_go_both_ways_and_the_status_comes_last(
    open_to_commands: Any, offered: tuple[str, ...], spoken: str
) -> None:
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT, protocols=offered) as socket:
        assert await socket.accepted() == spoken
        socket.send(b"\0hello")
        assert await socket.data() == (channels.STDOUT, b"hello")
        socket.send_text("\0!text")
        assert await socket.data() == (channels.STDERR, b"!text")
        running = open_to_commands.commands.running
        running.status = 3
        await running.finish_input()
        status = await socket.status()
    assert running.command.arguments == ("cat", "-u")
    assert (status["reason"], status["details"]["causes"]) == (
        "NonZeroExitCode",
        [{"reason": "ExitCode", "message": "3"}],
    )
    assert running.ended.is_set()


async def test_input_ends_by_itself_and_sizes_reach_the_terminal(open_to_commands: Any) -> None:
    query = {**CAT, "tty": "true", "stderr": "false", "container": "agent"}
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", query) as socket:
        await socket.accepted()
        socket.send(b'\4{"Width":80,"Height":24}')
        socket.send(b'\4{"Width":0,"Height":24}')
        socket.send(b"\x09for a channel that there is not")
        socket.send(b"")
        socket.send(b"\xff\0")
        assert (await socket.status())["status"] == "Success"
    running = open_to_commands.commands.running
    assert running.heard == [(80, 24), "end"]
    assert running.command.tty


async def test_what_the_client_does_not_want_to_hear_is_not_sent(open_to_commands: Any) -> None:
    query = {**CAT, "stdout": "false"}
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", query) as socket:
        await socket.accepted()
        socket.send(b"\0unheard")
        socket.send(b"\0!heard")
        assert await socket.data() == (channels.STDERR, b"!heard")
        socket.send(b"\xff\0")
        await socket.status()


@pytest.mark.parametrize("message", [b"\4no json", b"\4\xff", b"\4[1]", b"\xff", b"\xff\0\0"])
async def test_a_client_that_does_not_speak_the_protocol_ends_its_command(
    open_to_commands: Any, message: bytes
) -> None:
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as socket:
        await socket.accepted()
        socket.send(message)
        sent = await socket.next()
        while sent["type"] == "websocket.send":
            sent = await socket.next()
        assert (sent["type"], sent["code"]) == ("websocket.close", 1002)
    assert open_to_commands.commands.running.ended.is_set()


async def test_a_client_that_goes_away_ends_its_command(open_to_commands: Any) -> None:
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as socket:
        await socket.accepted()
        await open_to_commands.commands.started.wait()
        socket.leave()
    assert open_to_commands.commands.running.ended.is_set()


async def test_the_end_of_the_server_ends_commands_and_says_so(open_to_commands: Any) -> None:
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as socket:
        await socket.accepted()
        await open_to_commands.commands.started.wait()
        await open_to_commands.app.close()
        assert (await socket.status())["message"] == "the API server has ended"
    assert open_to_commands.commands.running.ended.is_set()


async def test_a_node_that_is_lost_is_told_as_the_end(open_to_commands: Any) -> None:
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as socket:
        await socket.accepted()
        await open_to_commands.commands.started.wait()
        open_to_commands.commands.running.lose()
        status = await socket.status()
    assert (status["reason"], status["message"]) == ("InternalError", "node n1 does not answer")


async def test_what_the_node_refuses_is_told_as_the_end(open_to_commands: Any) -> None:
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", {"command": ["forbidden-fruit"]}) as socket:
        await socket.accepted()
        assert "64 commands run" in (await socket.status())["message"]


async def test_a_slow_client_holds_up_nobody_else(open_to_commands: Any) -> None:
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as slow:
        await slow.accepted()
        await open_to_commands.commands.started.wait()
        open_to_commands.commands.running.go_on.clear()
        held = open_to_commands.commands.running
        async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as other:
            await other.accepted()
            other.send(b"\0hello")
            assert await other.data() == (channels.STDOUT, b"hello")
            other.leave()
        held.go_on.set()
        slow.leave()


async def test_an_open_command_is_one_of_the_streams_that_a_client_may_have(open_to_commands: Any) -> None:
    streams = open_to_commands.app._streams
    async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as socket:
        await socket.accepted()
        assert streams._flows == {"admin": 1}
        streams._flow_max = 1
        async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT) as other:
            assert (await other.refused())[0] == 429
        socket.leave()
    assert not streams._flows


NO = "choregos.dev/exec=allowed"


@pytest.mark.parametrize(
    ("path", "query", "code", "said"),
    [
        (f"{PODS}/web-0/exec", {}, 400, "at least 1 command"),
        (f"{PODS}/web-0/exec", {"command": ""}, 400, "at least 1 command"),
        (f"{PODS}/web-0/exec", {**CAT, "container": "other"}, 400, "container other is not valid"),
        (f"{PODS}/web-0/exec", {**CAT, "tty": "perhaps"}, 400, "tty must be true or false"),
        (f"{PODS}/web-0/exec", {"command": "x", "stdout": "0", "stderr": "0"}, 400, "stdin, stdout, stderr"),
        (f"{PODS}/idle-0/exec", CAT, 400, "its agent is in no worker process now"),
        (f"{PODS}/none/exec", CAT, 404, 'pods "none" not found'),
        (f"{PODS}/web-0/log", CAT, 405, "method"),
        (f"{PODS}/web-0/attach", CAT, 404, "could not find"),
        ("/apis/choregos.dev/v1/namespaces/default/agents/web-0/exec", CAT, 404, "could not find"),
        ("/version", {}, 404, "could not find"),
        ("/api/v1/pods", {"watch": "true"}, 405, "method"),
    ],
)
async def test_a_handshake_that_makes_no_sense_is_answered_with_a_status(
    open_to_commands: Any, path: str, query: Any, code: int, said: str
) -> None:
    await open_to_commands.start_agents(1, agent_set="idle", node="", ready=False)
    async with handshake(open_to_commands, path, query) as socket:
        refusal = await socket.refused()
    assert refusal[0] == code, refusal
    assert said in refusal[1]
    assert open_to_commands.commands.running is None


async def test_a_protocol_that_is_not_served_is_refused(open_to_commands: Any) -> None:
    for protocols in ((), ("v3.channel.k8s.io", "base64.channel.k8s.io")):
        async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT, protocols=protocols) as socket:
            code, said = await socket.refused()
        assert (code, V5 in said) == (400, True)


async def test_commands_are_off_until_the_namespace_allows_them(world: Any) -> None:
    await world.start_agents(1)
    for labels in ({}, {"choregos.dev/exec": "yes"}, {"choregos.dev/exec": None}):
        await world.client.patch("/api/v1/namespaces/default", {"metadata": {"labels": labels}})
        async with handshake(world, f"{PODS}/web-0/exec", CAT) as socket:
            code, said = await socket.refused()
        assert (code, NO in said) == (403, True)
        # kubectl falls back to another protocol and shows what it is told there.
        reply = await world.client.post(f"{PODS}/web-0/exec", None, command="cat")
        assert (reply.code, NO in reply.json["message"]) == (403, True)
    await allow(world)
    for method in ("GET", "POST"):
        reply = await world.client.request(method, f"{PODS}/web-0/exec", command="cat")
        assert (reply.code, "over WebSockets only" in reply.json["message"]) == (400, True)


async def test_a_handshake_passes_the_same_gate_as_every_request(open_to_commands: Any) -> None:
    for certificate, code in ((None, 401), (NOBODY, 403)):
        async with handshake(open_to_commands, f"{PODS}/web-0/exec", CAT, certificate=certificate) as socket:
            refused, said = await socket.refused()
        assert refused == code, said
    assert 'cannot create resource "pods/exec"' in said


@given(st.binary(max_size=40), st.sampled_from([V4, V5]))
def test_any_message_is_read_or_refused(message: bytes, protocol: str) -> None:
    try:
        read = channels.read(message, protocol)
    except ValueError:
        return
    assert read is None or isinstance(read, channels.Data | channels.EndOfInput | channels.Size)


def test_the_last_message_is_what_kubectl_decodes() -> None:
    assert msgspec.json.decode(channels.ended(0)[1:]) == {"metadata": {}, "status": "Success"}
    failed = msgspec.json.decode(channels.ended(255)[1:])
    assert (failed["status"], failed["reason"]) == ("Failure", "NonZeroExitCode")
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "255"}]
    assert channels.failed("why")[0] == channels.ERROR
