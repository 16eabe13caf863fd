"""Memory and JetStream give the same answer to every history of writes, conflicts, batches and fences."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from choregos.foundation.bus.connection import BusAddress, connect
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import ChoregosError
from choregos.foundation.ids import SystemIds
from choregos.store.backends.jetstream import JetStreamLog
from choregos.store.backends.memory import MemoryLog
from choregos.store.port import Fence, RecordLog, Write
from choregos.testing.nats_server import NatsServer
from choregos.testing.record_log_contract import EPOCH_SUBJECT, FENCE_SUBJECT, SUBJECTS, read_batch, states

pytestmark = pytest.mark.real

subjects = st.sampled_from(["a.x.1", "a.x.2", "a.y.1", "b.1"])
filters = st.sampled_from([("a.>",), ("a.x.*", "b.>"), ("b.1",), (">",)])
# How the expected sequence is chosen: none, right, or wrong in some way.
expectations = st.sampled_from(["none", "last", "zero", "other"])
writes = st.tuples(subjects, st.binary(max_size=4), expectations, st.booleans())


class BothLogs(RuleBasedStateMachine):
    def __init__(self, address: BusAddress) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.address = address
        self.stack = AsyncExitStack()
        self.memory = MemoryLog(SystemClock())
        self.fences: list[Fence] = []

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    @initialize()
    def open(self) -> None:
        self.run(self.opened())

    async def opened(self) -> None:
        self.bus = await self.stack.enter_async_context(connect(self.address, "tests"))
        self.stream = f"TEST_{SystemIds().suffix(10)}"
        self.jetstream = await self.stack.enter_async_context(JetStreamLog(self.bus, self.stream))
        await self.jetstream.provision(SUBJECTS)

    def teardown(self) -> None:
        self.run(self.closed())
        self.runner.close()

    async def closed(self) -> None:
        await self.bus.client.jetstream().delete_stream(self.stream)
        await self.stack.aclose()

    async def both(self, act: Any) -> Any:
        """What `act` gives on both logs: a result, or the class of the error."""
        answers = []
        for log in (self.memory, self.jetstream):
            try:
                answers.append(await act(log))
            except ChoregosError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    async def made(self, choices: Sequence[tuple[str, bytes, str, bool]]) -> list[Write]:
        made = {}
        for subject, data, expectation, tombstone in choices:
            last = await self.memory.last(subject)
            sequence = 0 if last is None else last.sequence
            expected = {"none": None, "last": sequence, "zero": 0, "other": sequence + 1}[expectation]
            made[subject] = Write(subject, data, expected, tombstone)
        return list(made.values())

    def fence(self, choice: int) -> Fence | None:
        """None, or one of the newest three epochs, or one that never was."""
        known = [None, *self.fences[-3:], Fence(FENCE_SUBJECT, EPOCH_SUBJECT, 1_000_000)]
        return known[choice % len(known)]

    @rule(choice=writes, fence=st.integers(0, 4))
    def append(self, choice: tuple[str, bytes, str, bool], fence: int) -> None:
        async def act() -> None:
            write = (await self.made([choice]))[0]
            await self.both(lambda log: log.append(write, fence=self.fence(fence)))

        self.run(act())

    @rule(choices=st.lists(writes, min_size=1, max_size=4), fence=st.integers(0, 4))
    def append_batch(self, choices: list[tuple[str, bytes, str, bool]], fence: int) -> None:
        async def act() -> None:
            batch = await self.made(choices)

            async def append(log: RecordLog) -> list[int]:
                return list(await log.append_batch(batch, fence=self.fence(fence)))

            await self.both(append)

        self.run(act())

    @rule()
    def begin_epoch(self) -> None:
        epoch = self.run(self.both(lambda log: log.append(Write(EPOCH_SUBJECT, b""))))
        self.fences.append(Fence(FENCE_SUBJECT, EPOCH_SUBJECT, epoch))

    @rule(filter=filters, after=st.integers(0, 10))
    def tail(self, filter: tuple[str, ...], after: int) -> None:
        async def act(log: RecordLog) -> object:
            records, sequence = await read_batch(log, filter, after=after)
            return states(records), sequence

        self.run(self.both(act))

    @invariant()
    def the_same_is_stored(self) -> None:
        if hasattr(self, "jetstream"):
            self.run(self.both(lambda log: log.subjects(">")))


def test_the_backends_agree_on_every_history(nats_server: NatsServer) -> None:
    run_state_machine_as_test(
        lambda: BothLogs(nats_server.address),
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
