"""What an agent class offers, and how arguments become what its author declared."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from choregos.foundation.errors import InvalidArguments, MethodNotFound
from choregos.messaging.values import decode, encode
from choregos.sdk import Agent, capability
from choregos.sdk.binding import describe
from choregos.sdk.methods import methods_of


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Parcel:
    content: bytes
    parts: list[bytes]


@dataclass
class Point:
    x: int
    y: int = 0


class Line(msgspec.Struct):
    start: Point
    end: Point


class Options(TypedDict, total=False):
    depth: int


class Order(pydantic.BaseModel):
    item: str
    count: int = pydantic.Field(ge=1)


class Typed(Agent):
    """One method for each kind of argument."""

    @capability("types")
    async def builtins(self, text: str, number: int, share: float = 0.5, *, flags: list[bool] | None = None) -> Any:
        return [text, number, share, flags]

    @capability("types")
    async def point(self, point: Point) -> Point:
        assert isinstance(point, Point)
        return Point(point.x + 1, point.y)

    @capability("types")
    async def line(self, line: Line) -> Line:
        assert isinstance(line.end, Point)
        return line

    @capability("types")
    async def others(self, colour: Colour, when: datetime, options: Options, raw: bytes) -> Any:
        return [colour, when, options, raw]

    @capability("json")
    async def parcel(self, parcel: Parcel, counts: dict[int, int] | None = None) -> Any:
        return [parcel.content, *parcel.parts, counts]

    @capability("types")
    async def order(self, order: Order) -> Order:
        assert isinstance(order, Order)
        return order

    @capability("types")
    async def anything(self, value, other=None):  # type: ignore[no-untyped-def]
        return [value, other]

    @capability
    def blocking(self, seconds: int) -> str:
        return f"slept {seconds}"

    @capability("mutable")
    async def mutable(self, items: list[int] = [1]) -> list[int]:  # noqa: B006
        return items

    @capability("unsendable")
    async def unsendable(self) -> object:
        return object()


def call(method: str, **arguments: Any) -> Any:
    found = methods_of(Typed).find(method, "")
    return decode(asyncio.run(found.run(Typed(), found.arguments(encode(arguments)))))


@pytest.mark.parametrize(
    ("method", "arguments", "result"),
    [
        ("builtins", {"text": "a", "number": 1}, ["a", 1, 0.5, None]),
        ("builtins", {"text": "a", "number": 1, "share": 1, "flags": [True]}, ["a", 1, 1.0, [True]]),
        ("point", {"point": Point(1)}, {"x": 2, "y": 0}),
        ("point", {"point": {"x": 1, "y": 5}}, {"x": 2, "y": 5}),
        ("line", {"line": Line(Point(1), Point(2))}, {"start": {"x": 1, "y": 0}, "end": {"x": 2, "y": 0}}),
        ("order", {"order": Order(item="pen", count=2)}, {"item": "pen", "count": 2}),
        ("anything", {"value": {"deep": [1]}}, [{"deep": [1]}, None]),
        ("blocking", {"seconds": 3}, "slept 3"),
        ("mutable", {}, [1]),
    ],
)
def test_arguments_arrive_in_their_types(method: str, arguments: dict[str, Any], result: Any) -> None:
    assert call(method, **arguments) == result


def test_enums_dates_and_bytes() -> None:
    now = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
    assert call("others", colour="red", when=now, options={"depth": 2}, raw=b"\x00") == [
        "red",
        now,
        {"depth": 2},
        b"\x00",
    ]
    # A date as a client writes it in JSON.
    assert call("others", colour="red", when="2026-11-22T19:00:00Z", options={}, raw=b"")[1] == now.replace(minute=0)


def test_bytes_and_the_keys_of_maps_may_come_as_json_says_them() -> None:
    plain = {"content": b"hi", "parts": [b"x", b""]}
    assert call("parcel", parcel=plain, counts={1: 2}) == [b"hi", b"x", b"", {1: 2}]
    from_json = {"content": "aGk=", "parts": ["eA==", ""]}
    assert call("parcel", parcel=from_json, counts={"1": 2}) == [b"hi", b"x", b"", {1: 2}]
    # Where the type is not known, text stays text.
    assert call("anything", value="aGk=") == ["aGk=", None]


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("parcel", {"parcel": {"content": "no base64!", "parts": []}}, "argument parcel.content: Invalid base64"),
        ("builtins", {"number": 1}, "missing argument text"),
        ("builtins", {"text": "a", "number": 1, "wrong": 2}, "unknown argument wrong"),
        ("builtins", {"text": 1, "number": 1}, "argument text: Expected str, got int"),
        ("builtins", {"text": "a", "number": 1, "flags": [True, 3]}, "argument flags[1]: Expected bool, got int"),
        ("point", {"point": {"y": 1}}, "missing field x of argument point"),
        ("line", {"line": {"start": {"x": "a"}, "end": {"x": 1}}}, "argument line.start.x: Expected int, got str"),
        ("others", {"colour": "blue", "when": "2026-11-22T19:00:00Z", "options": {}, "raw": ""}, "argument colour"),
        ("order", {"order": {"item": "pen", "count": 0}}, "count"),
    ],
)
def test_wrong_arguments_are_named(method: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        call(method, **arguments)
    assert message in str(caught.value)
    assert f"it is {method}(" in str(caught.value)


def test_arguments_that_are_no_map_are_refused() -> None:
    with pytest.raises(InvalidArguments, match="Expected object, got array"):
        methods_of(Typed).find("blocking", "").arguments(encode([1]))


def test_a_result_that_cannot_be_sent_says_so() -> None:
    with pytest.raises(TypeError, match="the result of unsendable cannot be sent"):
        call("unsendable")


def test_a_method_without_a_name_is_the_only_one_of_its_capability() -> None:
    methods = methods_of(Typed)
    assert methods.find("", "blocking").name == "blocking"
    with pytest.raises(MethodNotFound, match=r"name the method.*point\(point: Point\)"):
        methods.find("", "types")


def test_an_unknown_method_lists_those_there_are() -> None:
    with pytest.raises(MethodNotFound, match=r"no method wrong; there are: .*blocking\(seconds: int\)"):
        methods_of(Typed).find("wrong", "")


def test_a_class_is_described_by_its_capabilities() -> None:
    assert describe(Typed)["types"] == ["builtins", "point", "line", "others", "order", "anything"]
    assert methods_of(Typed) is methods_of(Typed)


def test_a_subclass_overrides_adds_and_removes() -> None:
    class Narrow(Typed):
        async def point(self, point: int) -> int:  # type: ignore[override]
            return point * 2

        @capability("more")
        async def more(self) -> None: ...

        blocking = None  # type: ignore[assignment]

    offered = describe(Narrow)
    assert "blocking" not in offered
    assert offered["more"] == ["more"]
    found = methods_of(Narrow).find("point", "")
    assert found.arguments(encode({"point": 4})) == {"point": 4}
    assert "blocking" in describe(Typed)


class TestRefusals:
    """Wrong declarations fail where they stand, not at the first call."""

    def test_streaming(self) -> None:
        with pytest.raises(TypeError, match="streaming is not supported"):

            class Streaming(Agent):
                @capability
                async def tokens(self) -> AsyncIterator[str]:
                    yield "a"

        with pytest.raises(TypeError, match="streaming is not supported"):

            class Generating(Agent):
                @capability("g")
                def numbers(self) -> Iterator[int]:
                    yield 1

    def test_arguments_without_names(self) -> None:
        with pytest.raises(TypeError, match=r"\*values"):

            class Variadic(Agent):
                @capability
                async def add(self, *values: int) -> int:
                    return sum(values)

        with pytest.raises(TypeError, match="travel by name"):

            class Positional(Agent):
                @capability
                async def add(self, value: int, /) -> int:
                    return value

        with pytest.raises(TypeError, match=r"\*\*values"):

            class Keywords(Agent):
                @capability
                async def add(self, **values: int) -> int:
                    return sum(values.values())

    def test_what_is_no_method(self) -> None:
        with pytest.raises(TypeError, match="belongs on a method"):
            capability(Point)
        with pytest.raises(TypeError, match="needs a name"):
            capability("")

    def test_hints_that_cannot_be_resolved(self) -> None:
        class Dangling(Agent):
            @capability
            async def use(self, value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        with pytest.raises(TypeError, match=r"Dangling\.use: a type hint cannot be resolved.*Nowhere"):
            describe(Dangling)

    def test_what_is_no_agent(self) -> None:
        with pytest.raises(TypeError, match=r"inherits from choregos\.Agent"):
            describe(Point)  # type: ignore[arg-type]
