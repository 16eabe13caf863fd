"""How a call ends at its callee: result, failure, deadline, cancellation, overload; each answered by one frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from choregos.foundation.errors import (
    CallCancelled,
    DeadlineExceeded,
    HandlerFailed,
    InvalidArguments,
    NoAgent,
    Overloaded,
    PayloadTooLarge,
)
from choregos.messaging import calls
from choregos.messaging.backends.memory import MemoryBus, MemoryCallTransport
from choregos.messaging.calls import CallServer
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.invocation import Invoker, inherited_deadline
from choregos.messaging.tracebacks import Raised, explain
from choregos.messaging.values import decode, encode
from choregos.wire.calls import MOVED, Cancel, Failure, Outbound, Request, Result

SUBJECT = "c.local.default.host"
_decode_answer = msgspec.msgpack.Decoder(Outbound).decode

Handler = Callable[[], Awaitable[object]]


class Fake:
    """A callee with one method."""

    label = "default/fake"
    uid = "uid-1"

    def __init__(self, handler: Handler) -> None:
        self.in_flight = 0
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._handler = handler

    def invoke(self, method: str, capability: str, arguments: bytes) -> Awaitable[bytes]:
        if method == "refused":
            raise InvalidArguments("argument x: no")
        if method == "unreadable":
            raise KeyError("raised by a type of its arguments")
        return self._run()

    def explain(self, error: BaseException) -> Raised:
        return explain(error)

    async def _run(self) -> bytes:
        self.began.set()
        try:
            return encode(await self._handler())
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def forever() -> object:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


def raising(error: BaseException) -> Handler:
    async def handler() -> object:
        raise error

    return handler


async def seven() -> object:
    return 7


class Setting:
    """One call server with one callee, and a client that sends it frames."""

    def __init__(self, fake: Fake, in_flight_max: int = 10) -> None:
        self.bus = bus = MemoryBus()
        deadlines = Deadlines()
        self.fake = fake
        self.client = MemoryCallTransport(bus, deadlines)
        self.invoker = Invoker(deadlines, in_flight_max)
        self.server = CallServer(MemoryCallTransport(bus, deadlines), {"fake": fake}.get, self.invoker)

    def send_only(self, request: Request, reply: str) -> None:
        self.bus.send(SUBJECT, msgspec.msgpack.encode(request), reply)

    async def send(self, request: Request) -> Result | Failure:
        payload = msgspec.msgpack.encode(request)
        farewell = lambda reply: msgspec.msgpack.encode(Cancel(reply))  # noqa: E731
        return _decode_answer(await self.client.request(SUBJECT, payload, 10, farewell))


@asynccontextmanager
async def serving(handler: Handler, in_flight_max: int = 10) -> AsyncIterator[Setting]:
    setting = Setting(Fake(handler), in_flight_max)
    await setting.server.serve(SUBJECT)
    yield setting
    await setting.server.close()
    assert setting.fake.in_flight == 0
    assert setting.invoker.in_flight == 0


def request(method: str = "run", timeout_ms: int = 5000, agent: str = "fake", uid: str = "") -> Request:
    return Request(agent, method, timeout_ms, msgspec.Raw(encode({})), uid=uid)


async def test_a_result_comes_with_time_and_load() -> None:
    async with serving(seven) as setting:
        answer = await setting.send(request())
    assert isinstance(answer, Result)
    assert decode(answer.value) == 7
    assert answer.in_flight == 1


@pytest.mark.parametrize(("agent", "uid"), [("stranger", ""), ("fake", "uid-of-before")])
async def test_who_is_not_here_has_moved(agent: str, uid: str) -> None:
    async with serving(seven) as setting:
        answer = await setting.send(request(agent=agent, uid=uid))
    assert isinstance(answer, Failure)
    assert answer.code == MOVED


async def test_what_a_method_raises_arrives_with_type_and_traceback() -> None:
    async with serving(raising(KeyError("order"))) as setting:
        answer = await setting.send(request())
    assert isinstance(answer, Failure)
    assert (answer.code, answer.type, answer.message) == ("HandlerFailed", "KeyError", "KeyError: 'order'")
    assert "in handler" in answer.traceback
    assert "invocation.py" not in answer.traceback


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt("k"), type("Panic", (BaseException,), {})("in an extension")]
)
async def test_what_is_no_exception_ends_the_call_and_not_the_process(error: BaseException) -> None:
    async with serving(raising(error)) as setting:
        answer = await setting.send(request())
    assert isinstance(answer, Failure)
    assert (answer.code, answer.type) == ("HandlerFailed", type(error).__name__)


async def test_arguments_whose_types_raise_what_they_like_are_answered_too() -> None:
    async with serving(seven) as setting:
        answer = await setting.send(request("unreadable"))
    assert isinstance(answer, Failure)
    assert (answer.code, answer.type) == ("HandlerFailed", "KeyError")


async def test_errors_of_the_methods_own_calls_are_failures_of_the_method() -> None:
    # Else the caller would think that *its* call found nobody, and repeat it.
    async with serving(raising(NoAgent("nobody knows"))) as setting:
        answer = await setting.send(request())
    assert isinstance(answer, Failure)
    assert (answer.code, answer.type) == ("HandlerFailed", "NoAgent")


async def test_a_refusal_before_the_method_keeps_its_code() -> None:
    async with serving(seven) as setting:
        answer = await setting.send(request("refused"))
        assert isinstance(answer, Failure)
        assert answer.code == "InvalidArguments"


async def test_the_deadline_cancels_the_method_and_is_answered() -> None:
    async with serving(forever) as setting:
        answer = await setting.send(request(timeout_ms=20))
        assert setting.fake.cancelled.is_set()
    assert isinstance(answer, Failure)
    assert answer.code == "DeadlineExceeded"
    assert "0.02 s" in answer.message


async def test_a_method_that_swallows_its_deadline_still_fails() -> None:
    async def stubborn() -> object:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return "too late"

    async with serving(stubborn) as setting:
        answer = await setting.send(request(timeout_ms=20))
    assert isinstance(answer, Failure)
    assert answer.code == "DeadlineExceeded"


async def test_a_cancelled_caller_cancels_the_method() -> None:
    async with serving(forever) as setting:
        waiting = asyncio.ensure_future(setting.send(request()))
        await asyncio.wait_for(setting.fake.began.wait(), 5)
        waiting.cancel()
        await asyncio.wait_for(setting.fake.cancelled.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_closing_answers_what_runs() -> None:
    async with serving(forever) as setting:
        waiting = asyncio.ensure_future(setting.send(request()))
        await asyncio.wait_for(setting.fake.began.wait(), 5)
        await setting.server.close()
        answer = await waiting
    assert isinstance(answer, Failure)
    assert answer.code == "CallCancelled"
    assert "shutting down" in answer.message


async def test_more_than_the_limit_is_refused() -> None:
    async with serving(forever, in_flight_max=2) as setting:
        waiting = [asyncio.ensure_future(setting.send(request())) for _ in range(2)]
        await asyncio.wait_for(setting.fake.began.wait(), 5)
        while setting.fake.in_flight < 2:
            await asyncio.sleep(0)
        answer = await setting.send(request())
        assert isinstance(answer, Failure)
        assert (answer.code, answer.in_flight) == ("Overloaded", 2)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        while setting.fake.in_flight:
            await asyncio.sleep(0)


async def test_requests_that_want_no_reply_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "REQUESTS_MAX", 2)
    async with serving(forever) as setting:
        for _ in range(2):
            setting.send_only(request(), "")
        while setting.fake.in_flight < 2:
            await asyncio.sleep(0)
        answer = await setting.send(request())
    assert isinstance(answer, Failure)
    assert answer.code == "Overloaded"


async def test_a_reply_subject_stands_for_one_request(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(forever) as setting:
        answers: list[bytes] = []
        setting.bus.listen("_INBOX.x", lambda _, answer, __: answers.append(answer))
        setting.send_only(request(), "_INBOX.x")
        setting.send_only(request("refused"), "_INBOX.x")
        await asyncio.wait_for(setting.fake.began.wait(), 5)
        while not caplog.records:
            await asyncio.sleep(0)
        # The first one can still be cancelled, and its answer is the only one.
        setting.bus.send(SUBJECT, msgspec.msgpack.encode(Cancel("_INBOX.x")), "")
        await asyncio.wait_for(setting.fake.cancelled.wait(), 5)
    assert "reply subject" in caplog.text
    assert not answers


async def test_a_result_over_the_limit_is_named() -> None:
    async def large() -> object:
        return b"x" * 1_000_001

    async with serving(large) as setting:
        answer = await setting.send(request())
    assert isinstance(answer, Failure)
    assert answer.code == "PayloadTooLarge"
    assert "the result of default/fake: 1,000,006 bytes" in answer.message


async def test_what_is_no_frame_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(seven) as setting:
        await setting.client.publish(SUBJECT, b"\xff nonsense")
        answer = await setting.send(request())
    assert isinstance(answer, Result)
    assert "no call frame" in caplog.text


class TestInvoker:
    """In the caller's own task, as for neighbours in one process."""

    async def test_the_deadline_of_the_outer_call_binds_the_inner(self) -> None:
        deadlines = Deadlines()
        invoker = Invoker(deadlines)
        seen: list[float | None] = []

        async def handler() -> object:
            seen.append(inherited_deadline())
            return None

        before = deadlines.now()
        await invoker.invoke(Fake(handler), "", "", b"", 5.0)
        assert inherited_deadline() is None
        assert seen[0] is not None
        assert seen[0] >= before + 5.0

    async def test_cancelling_the_caller_is_no_failure_of_the_call(self) -> None:
        fake = Fake(forever)
        task = asyncio.ensure_future(Invoker(Deadlines()).invoke(fake, "", "", b"", 60))
        await fake.began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.in_flight == 0

    async def test_interrupting_an_agent_ends_its_calls_only(self) -> None:
        invoker = Invoker(Deadlines())
        stopped, other = Fake(forever), Fake(forever)
        other.uid = "uid-2"
        tasks = [asyncio.ensure_future(invoker.invoke(each, "", "", b"", 60)) for each in (stopped, other)]
        await stopped.began.wait()
        await other.began.wait()
        assert invoker.interrupt("uid-1", "it stops") == 1
        with pytest.raises(CallCancelled, match="it stops"):
            await tasks[0]
        assert not tasks[1].done()
        tasks[1].cancel()
        await asyncio.wait(tasks)

    async def test_an_outer_deadline_is_not_swallowed_by_an_inner_one(self) -> None:
        # Both end in the same tick of the wheel; one CancelledError is thrown for two cancellations.
        invoker = Invoker(Deadlines())
        inner = Fake(forever)
        inner.uid = "inner"
        went_on = False

        async def outer_handler() -> object:
            nonlocal went_on
            try:
                await invoker.invoke(inner, "", "", b"", 0.02)
            except DeadlineExceeded:
                went_on = True
                await forever()
            return None

        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(invoker.invoke(Fake(outer_handler), "", "", b"", 0.02), 5)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert not went_on or inner.cancelled.is_set()

    async def test_a_handler_that_cancels_itself_gave_up(self) -> None:
        with pytest.raises(CallCancelled, match="gave up"):
            await Invoker(Deadlines()).invoke(Fake(raising(asyncio.CancelledError())), "", "", b"", 5)

    async def test_failures_name_the_agent(self) -> None:
        with pytest.raises(HandlerFailed) as caught:
            await Invoker(Deadlines()).invoke(Fake(raising(ValueError())), "", "", b"", 5)
        assert (caught.value.agent, caught.value.remote_type, str(caught.value)) == (
            "default/fake",
            "ValueError",
            "ValueError",
        )

    async def test_the_limit_is_of_each_agent(self) -> None:
        invoker = Invoker(Deadlines(), in_flight_max=1)
        busy = Fake(forever)
        task = asyncio.ensure_future(invoker.invoke(busy, "", "", b"", 60))
        await busy.began.wait()
        with pytest.raises(Overloaded, match="1 calls"):
            await invoker.invoke(busy, "", "", b"", 60)
        assert decode(await invoker.invoke(Fake(seven), "", "", b"", 60)) == 7
        task.cancel()
        await asyncio.wait([task])

    async def test_the_result_is_measured(self) -> None:
        async def large() -> object:
            return "x" * 1_000_000

        with pytest.raises(PayloadTooLarge):
            await Invoker(Deadlines()).invoke(Fake(large), "", "", b"", 5)
