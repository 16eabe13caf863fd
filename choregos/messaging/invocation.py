"""Running one method of an agent of this process: limits, deadline, cancellation, and what became of it.

The call server uses it for calls from elsewhere, the caller for calls within the process, so both mean the same. The
method runs in the task that awaits `Invoker.invoke`. A call ends in one of these ways: it returns; it raises
(`HandlerFailed`); its deadline passes (`DeadlineExceeded`); it is interrupted because its caller went away or its
agent stops (`CallCancelled`). Deadline and interruption reach the method as `asyncio.CancelledError`; a method that
swallows that goes on to its own end, and the call fails all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from functools import partial
from typing import Protocol

from choregos.foundation.errors import CallCancelled, CallError, DeadlineExceeded, HandlerFailed, Overloaded
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.tracebacks import Raised
from choregos.messaging.values import check_size

IN_FLIGHT_MAX = 1000
"""Default of the calls one agent serves at once."""

_deadline: ContextVar[float] = ContextVar("choregos_call_deadline")


def inherited_deadline() -> float | None:
    """When the call that is being served here must have ended, by the loop's time in seconds; None outside a call."""
    return _deadline.get(None)


class Callee(Protocol):
    """One agent of this process, as calls see it.

    Attributes:
        uid: of the agent.
        label: `namespace/name`, for errors.
        in_flight: calls it is serving; kept by the `Invoker`.
    """

    uid: str
    label: str
    in_flight: int

    def invoke(self, method: str, capability: str, arguments: bytes) -> Awaitable[bytes]:
        """Chooses the method, decodes its arguments, and returns what runs it and encodes its result.

        Raises (at once, not when awaited):
            MethodNotFound: with the methods there are.
            InvalidArguments: naming the argument.
        """
        ...

    def explain(self, error: BaseException) -> Raised:
        """What to tell of an exception of its method; `choregos.messaging.tracebacks.explain`, where its code may run.

        Raises nothing.
        """
        ...


class Call:
    """One call under way; `interrupt` ends it.

    Attributes:
        cause: why we cancelled its task; None while we have not, so that a cancellation is somebody else's.
        cancelling_before: cancellations the task had been asked for when the call began.
    """

    __slots__ = ("_task", "cancelling_before", "cause")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self.cause: CallError | None = None
        self.cancelling_before = task.cancelling()

    def interrupt(self, cause: CallError) -> None:
        if self.cause is None:
            self.cause = cause
            self._task.cancel()

    def settle(self) -> None:
        """Raises the cause of an interruption, unless the task is being cancelled for another reason too.

        The same rule as `asyncio.timeout`: a call within a call, both over, must not swallow the outer's end.
        """
        if self.cause is not None and self._task.uncancel() <= self.cancelling_before:
            raise self.cause from None


class Invoker:
    """The calls that run in this process.

    Invariant: `callee.in_flight` is the number of its calls in `_running`, at most `in_flight_max`.
    """

    def __init__(self, deadlines: Deadlines, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self.deadlines = deadlines
        self.in_flight_max = in_flight_max
        self._running: dict[str, set[Call]] = {}

    @property
    def in_flight(self) -> int:
        """Calls under way in this process."""
        return sum(map(len, self._running.values()))

    async def invoke(self, callee: Callee, method: str, capability: str, arguments: bytes, timeout_s: float) -> bytes:
        """The encoded result.

        Raises:
            CallError: every way in which the call can fail.
            asyncio.CancelledError: the task that awaits this was cancelled by somebody else.
        """
        if callee.in_flight >= self.in_flight_max:
            raise Overloaded(f"{callee.label} serves {self.in_flight_max} calls already", agent=callee.label)
        method_run = _begin_method(callee, method, capability, arguments)
        task = asyncio.current_task()
        assert task is not None
        call = Call(task)
        deadline = self.deadlines.add(timeout_s, partial(_expire, call, callee.label, timeout_s))
        token = _deadline.set(deadline.at)
        self._begin(callee, call)
        try:
            encoded = await method_run
        except asyncio.CancelledError as error:
            call.settle()
            if task.cancelling() > call.cancelling_before:
                raise
            raise CallCancelled(f"{callee.label} gave up the call", agent=callee.label) from error
        except GeneratorExit:
            raise
        except BaseException as error:
            # Whatever it is: `sys.exit()` in a method, KeyboardInterrupt, or the panic of an extension module, none of
            # them an Exception, must end this call and not the process of its neighbours.
            call.settle()
            if self.deadlines.now() >= deadline.at:
                # A call that the method made inherited the deadline and noticed it first.
                raise _over(callee.label, timeout_s) from error
            raise _failure(callee, error) from error
        finally:
            self._end(callee, call)
            _deadline.reset(token)
            self.deadlines.discard(deadline)
        call.settle()
        check_size(encoded, f"the result of {callee.label}")
        return encoded

    def interrupt(self, uid: str, reason: str) -> int:
        """Ends all calls of an agent with `CallCancelled`; returns how many there were."""
        calls = tuple(self._running.get(uid, ()))
        for call in calls:
            call.interrupt(CallCancelled(reason))
        return len(calls)

    def interrupt_all(self, reason: str) -> None:
        for uid in tuple(self._running):
            self.interrupt(uid, reason)

    def _begin(self, callee: Callee, call: Call) -> None:
        callee.in_flight += 1
        running = self._running.get(callee.uid)
        if running is None:
            running = self._running[callee.uid] = set()
        running.add(call)

    def _end(self, callee: Callee, call: Call) -> None:
        callee.in_flight -= 1
        running = self._running[callee.uid]
        running.discard(call)
        if not running:
            del self._running[callee.uid]


def _over(label: str, timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"{label} did not answer within {timeout_s:.3g} s", agent=label)


def _expire(call: Call, label: str, timeout_s: float) -> None:
    call.interrupt(_over(label, timeout_s))


def _begin_method(callee: Callee, method: str, capability: str, arguments: bytes) -> Awaitable[bytes]:
    """`callee.invoke`; types of the author's that raise what they like while they are decoded fail the call too."""
    try:
        return callee.invoke(method, capability, arguments)
    except CallError:
        raise
    except BaseException as error:
        raise _failure(callee, error) from error


def _failure(callee: Callee, error: BaseException) -> HandlerFailed:
    raised = callee.explain(error)
    return HandlerFailed(raised.summary, agent=callee.label, remote_type=raised.type, remote_traceback=raised.traceback)
