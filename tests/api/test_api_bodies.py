"""Who sends a body slowly, or asks what takes others long, keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from api_world import GROUP, Client, World, node
from starlette.requests import ClientDisconnect, Request

from choregos.api.context import ApiLimits
from choregos.api.rules.status import Refusal
from choregos.api.server import build_app
from choregos.api.sharing.bodies import COUNTED_BYTES_MIN, Bodies
from choregos.api.sharing.fairness import FairnessLimits
from choregos.foundation.errors import TooLarge

NODES = f"{GROUP}/agentnodes"
CALLS = f"{GROUP}/namespaces/default/agentcalls"
HANGS = {"apiVersion": "choregos.dev/v1", "kind": "AgentCall", "spec": {"agent": "web-0", "method": "hang"}}
ONE_SEAT = FairnessLimits(seats=1, waiting_per_flow=5, wait_s=0.01)


class Sender:
    """A body whose parts come when they are given; None: the client goes away."""

    def __init__(self, *parts: bytes | None, ends: bool = False) -> None:
        self._messages: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        for part in parts:
            self.give(part)
        if ends:
            self.give(b"", last=True)

    def give(self, part: bytes | None, last: bool = False) -> None:
        gone = {"type": "http.disconnect"}
        self._messages.put_nowait(
            gone if part is None else {"type": "http.request", "body": part, "more_body": not last}
        )

    def request(self) -> Request:
        return Request({"type": "http", "method": "POST", "headers": []}, self._messages.get)

    async def post(self, client: Client, path: str) -> list[Mapping[str, Any]]:
        """What was answered."""
        sent: list[Mapping[str, Any]] = []

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        scope = client._scope("POST", path, {}, {"content-type": "application/json", "content-length": "1000"})
        await client._app(scope, self._messages.get, send)
        return sent


@asynccontextmanager
async def limited(world: World, **limits: Any) -> AsyncIterator[Client]:
    app = build_app(replace(world.context, limits=ApiLimits(**limits)))
    yield Client(app, {"subject": ((("commonName", "ada"),), (("organizationName", "system:masters"),))})
    await app.close()


async def turn() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def stop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_bodies_that_do_not_come_hold_no_seats(world: World) -> None:
    async with limited(world, fairness=ONE_SEAT) as ada:
        senders = [Sender(b"{") for _ in range(64)]
        sleeping = [asyncio.ensure_future(sender.post(ada, NODES)) for sender in senders]
        await turn()
        assert (await ada.get(NODES)).code == 200
        senders[0].give(json.dumps(node("n1")).encode()[1:], last=True)
        assert (await sleeping[0])[0]["status"] == 201
        await stop(*sleeping)
        assert not ada._app._bodies._flows


async def test_a_body_has_so_much_time_and_then_the_connection_is_closed(world: World) -> None:
    async with limited(world, body_s=0.01) as ada:
        for path in (NODES, CALLS):
            start, content = await Sender(b"{").post(ada, path)
            assert start["status"] == 408
            assert (b"connection", b"close") in start["headers"]
            status = json.loads(content["body"])
            assert (status["reason"], status["message"]) == ("Timeout", "the request's body did not come within 0.01 s")


async def test_so_much_of_one_flow_is_under_way_and_no_more() -> None:
    bodies = Bodies(100_000, 5 * COUNTED_BYTES_MIN, 60)
    async with bodies.read("a", Sender(b"x" * 3 * COUNTED_BYTES_MIN, ends=True).request()) as body:
        assert body == b"x" * 3 * COUNTED_BYTES_MIN
        async with bodies.read("a", Sender(b"x" * 5, b"y", ends=True).request()) as small:
            assert small == b"xxxxxy"
            with pytest.raises(Refusal, match="a has 80 KiB of requests under way") as refused:
                await bodies.read("a", Sender(b"x" * COUNTED_BYTES_MIN, b"x", ends=True).request()).__aenter__()
            assert refused.value.code == 429
            async with bodies.read("b", Sender(ends=True).request()) as other:
                assert other == b""
    assert not bodies._flows


async def test_what_was_not_read_to_its_end_is_no_longer_counted() -> None:
    bodies = Bodies(10, 5 * COUNTED_BYTES_MIN, 60)
    for _ in range(10):
        with pytest.raises(TooLarge):
            await bodies.read("a", Sender(b"x" * 11).request()).__aenter__()
        with pytest.raises(ClientDisconnect):
            await bodies.read("a", Sender(b"x", None).request()).__aenter__()
    assert not bodies._flows


async def test_who_waits_for_an_agent_or_a_node_holds_no_seat_and_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start_agents(1)

    async def silent(*_: Any) -> Any:
        await asyncio.Event().wait()
        yield

    async def unmeasured(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(world.logs, "lines", silent)
    monkeypatch.setattr(world.usage, "of_agents", unmeasured)
    async with limited(world, fairness=ONE_SEAT, streams_max=3) as ada:
        path = "/api/v1/namespaces/default/pods/web-0/log"
        log = asyncio.ensure_future(ada.get(path))
        top = asyncio.ensure_future(ada.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"))
        calling = asyncio.ensure_future(ada.post(CALLS, HANGS))
        await world.caller.started.wait()
        assert (await ada.get(NODES)).code == 200
        for refused in (await ada.get(path), await ada.post(CALLS, HANGS)):
            assert refused.code == 429
            assert "3 streams open" in refused.json["message"]
        await stop(log, top, calling)
        assert not ada._app._streams._flows
    monkeypatch.undo()
    async with limited(world, fairness=ONE_SEAT, streams_max=1) as ada:
        assert (await ada.get(path)).code == 200, "a log is one stream, not two"
