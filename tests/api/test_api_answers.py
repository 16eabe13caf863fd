"""Large answers wait for who reads them, counted; a flow with too much of them has nothing else made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from api_world import GROUP, Client, World
from starlette.responses import Response, StreamingResponse

from choregos.api.context import ApiLimits
from choregos.api.rules.status import Refusal, size
from choregos.api.server import build_app
from choregos.api.sharing.answers import PART_BYTES, Answers

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


class Reader:
    """Takes what it is sent when it `reads`."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.sent: list[Mapping[str, Any]] = []

    async def send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)
        await self.reads.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def silent() -> Any:
    await asyncio.Event().wait()


async def turn() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@asynccontextmanager
async def client(world: World, name: str, **limits: Any) -> AsyncIterator[Client]:
    app = build_app(replace(world.context, limits=ApiLimits(**limits)))
    yield Client(app, certificate(name))
    await app.close()


def certificate(name: str) -> Any:
    return {"subject": ((("commonName", name),), (("organizationName", "system:masters"),))}


async def test_a_flow_with_too_much_that_is_not_read_has_nothing_else_made(world: World) -> None:
    data = {"a": "x" * 3 * PART_BYTES}
    await world.client.post(CONFIG_MAPS, {"metadata": {"name": "large"}, "data": data})
    async with client(world, "ada", answers_bytes_max=4 * PART_BYTES) as ada:
        readers = [Reader(), Reader()]
        lists = []
        for reader in readers:
            scope = ada._scope("GET", CONFIG_MAPS, {}, {})
            lists.append(asyncio.ensure_future(ada._app(scope, silent, reader.send)))
            await turn()
        for path in (f"{CONFIG_MAPS}/large", f"{GROUP}/agentnodes"):
            refused = await ada.get(path)
            assert (refused.code, refused.header("retry-after")) == (429, ["1"])
            assert "ada has 256 KiB of answers that are not read" in refused.json["message"]
        assert (await ada.as_(certificate("bob")).get(f"{CONFIG_MAPS}/large")).code == 200
        lists[1].cancel()
        await turn()
        assert (await ada.get(f"{CONFIG_MAPS}/large")).code == 200, "one that is given up is not counted"
        readers[0].reads.set()
        await lists[0]
        assert json.loads(readers[0].body)["items"][0]["data"] == data
        assert not ada._app._answers._flows


async def test_lists_are_counted_while_they_are_made_and_one_alone_may_be_larger(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("choregos.api.handlers.reading.ENCODED_AT_ONCE", 1)
    for number in range(4):
        data = {"a": "x" * PART_BYTES}
        await world.client.post(CONFIG_MAPS, {"metadata": {"name": f"c{number}"}, "data": data})
    async with client(world, "ada", answers_bytes_max=3 * PART_BYTES) as ada:
        assert len((await ada.get(CONFIG_MAPS)).json["items"]) == 4
        together = await asyncio.gather(*(ada.get(CONFIG_MAPS) for _ in range(9)))
        codes = [reply.code for reply in together]
        assert set(codes) == {200, 429}
        assert codes.count(200) <= 3
        assert not ada._app._answers._flows
        assert (await ada.get(CONFIG_MAPS)).code == 200


@pytest.mark.parametrize("length", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 5 * PART_BYTES + 7])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_in_parts_is_the_answer(length: int, stream: bool) -> None:
    content = bytes(index % 251 for index in range(length))

    async def parts() -> AsyncIterator[bytes]:
        yield content
        yield b"end"

    answers, reader = Answers(1), Reader()
    reader.reads.set()
    response = StreamingResponse(parts()) if stream else Response(content)
    await answers.counted("a", response)({"type": "http", "asgi": {"spec_version": "2.4"}}, silent, reader.send)
    assert reader.body == content + b"end" * stream
    bodies = [message for message in reader.sent if message["type"] == "http.response.body"]
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
    assert max(len(message["body"]) for message in bodies) <= PART_BYTES
    answers.require_room("a")


async def test_a_small_answer_is_sent_as_it_is() -> None:
    response = Response(b"x" * PART_BYTES)
    assert Answers(1).counted("a", response) is response


async def test_room_is_a_flows_own() -> None:
    answers, reader = Answers(PART_BYTES), Reader()
    sending = asyncio.ensure_future(
        answers.counted("a", Response(b"x" * 2 * PART_BYTES))({"type": "http"}, silent, reader.send)
    )
    await turn()
    with pytest.raises(Refusal, match="a has 64 KiB"):
        answers.require_room("a")
    answers.require_room("b")
    sending.cancel()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1000, "1000 bytes"),
        (1024, "1 KiB"),
        (64 << 20, "64 MiB"),
        (3 << 29, "1536 MiB"),
        (1 << 31, "2 GiB"),
    ],
)
def test_sizes_are_for_people(number: int, text: str) -> None:
    assert size(number) == text
