"""The tail of a JetStream stream: one ephemeral push consumer at a time, made anew whenever it may have lost anything.

Invariants: records are handed out in stream order, each sequence at most once; a consumer's deliveries are numbered
without gaps, so a missing number, a heartbeat that tells of more than came, silence for three heartbeats, and every
loss of the connection make a new consumer begin after the last record handed out. Memory is bounded by the server's
flow control: its requests are answered only when everything before them has been consumed. A reader's consumers all
have its name, so it never has two, however often the connection is lost and whatever answer is lost with it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from choregos.foundation.backoff import RECONNECT
from choregos.foundation.bus.connection import Bus
from choregos.foundation.errors import Expired, Permanent, Temporary
from choregos.foundation.timeout import timeout
from choregos.store.backends.requests import Requests
from choregos.store.port import BATCH_WRITES_MAX, Batch, Record

log = logging.getLogger(__name__)

OPERATION = "KV-Operation"
TOMBSTONE = "DEL"
"""The header of a tombstone, as in JetStream's key-value buckets, so that NATS' own tools understand it."""

HEARTBEAT_S = 2.0
HEARTBEATS_MISSED_MAX = 3
INACTIVE_S = 30.0
"""The server removes a consumer that nobody has listened to for so long."""

NANOSECONDS = 1_000_000_000

CONSUMER_NOT_FOUND = 10014
TOO_MANY_CONSUMERS = 10026


class _Lost(Exception):
    """The consumer may have lost something: make a new one."""


class _Consumer:
    """One consumer and its subscription, from `open` until something is amiss."""

    def __init__(self, bus: Bus, requests: Requests, stream: str, name: str) -> None:
        self._bus = bus
        self._requests = requests
        self._stream = stream
        self._name = name
        self._subscription: Subscription | None = None
        self._incoming: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._lost = ""
        self.created = ""  # when the stream was: tells it from another of the same name
        self._delivered = 0  # number of the last delivery that was handed out
        self._start = 0  # the stream's last sequence before the consumer was made
        self._idle = False  # the server has said that it has nothing to send

    async def open(self, filters: Sequence[str], after: int, *, again: bool) -> Batch | None:
        """Begins after sequence `after`; returns an empty batch if nothing is there.

        Args:
            again: there may be a consumer of this name, which has to go first.

        Raises:
            Expired: the stream has not come as far as `after`: it is not the one that was read before.
        """
        inbox = self._bus.client.new_inbox()
        self._subscription = await self._bus.client.subscribe(inbox, cb=self._receive)
        if again:
            await self._call(f"CONSUMER.DELETE.{self._stream}.{self._name}", None)
        info = await self._call(f"STREAM.INFO.{self._stream}", None)
        self._start, self.created = info["state"]["last_seq"], info["created"]
        if self._start < after:
            raise Expired(f"{self._stream} ends at {self._start}, before {after}: it was replaced or restored")
        config: dict[str, Any] = {
            "name": self._name,
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_S * NANOSECONDS),
            "inactive_threshold": int(INACTIVE_S * NANOSECONDS),
            "mem_storage": True,
            "num_replicas": 1,
        }
        if tuple(filters) != (">",):
            config["filter_subjects"] = list(filters)
        question = {"stream_name": self._stream, "config": config}
        answer = await self._call(f"CONSUMER.CREATE.{self._stream}.{self._name}", question)
        # What was delivered before the answer came counts as pending no more.
        if answer["num_pending"] or answer["delivered"]["consumer_seq"] or self._incoming:
            return None
        return Batch((), True, self._start)

    async def _call(self, operation: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
        answer = await self._requests.call(operation, arguments)
        error = answer.get("error")
        code = 0 if error is None else error.get("err_code")
        if error is None or code == CONSUMER_NOT_FOUND:
            return answer
        text = f"{self._stream}: {error.get('description')}"
        if code == TOO_MANY_CONSUMERS:
            log.warning(text)  # some will go
        elif error.get("code") == 400:
            raise Permanent(text)
        raise Temporary(text)

    async def close(self) -> None:
        client = self._bus.client
        if self._subscription is None or client.is_closed:
            return
        await self._subscription.unsubscribe()

    def lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._arrived.set()

    async def _receive(self, message: Msg) -> None:
        self._incoming.append(message)
        self._arrived.set()

    async def next_batch(self, complete: bool) -> Batch:
        """The next records; none only if the reader does not know yet that it is `complete`.

        Raises:
            _Lost: the consumer must be made anew.
        """
        while True:
            if self._lost:
                raise _Lost(self._lost)
            records, pending = await self._take()
            if records:
                sequence = records[-1].sequence
                caught_up = pending == 0
                return Batch(records, caught_up, max(sequence, self._start) if caught_up else sequence)
            if self._idle and not complete:
                return Batch((), True, self._start)
            self._arrived.clear()
            try:
                async with timeout(HEARTBEAT_S * HEARTBEATS_MISSED_MAX):
                    await self._arrived.wait()
            except TimeoutError as error:
                raise _Lost("no heartbeat") from error

    async def _take(self) -> tuple[list[Record], int]:
        """Up to `BATCH_WRITES_MAX` records that have arrived, and how many are waiting at the server after them."""
        records: list[Record] = []
        pending = -1
        incoming = self._incoming
        while incoming and len(records) < BATCH_WRITES_MAX:
            message = incoming.popleft()
            headers = message.headers
            if headers is not None and "Status" in headers:
                await self._control(message, headers)
                continue
            # $JS.ACK[.domain.account].stream.consumer.delivered.sequence.number.time.pending[.token]
            fields = message.reply.split(".")
            first = 5 if len(fields) == 9 else 7
            number = int(fields[first + 1])
            if number != self._delivered + 1:
                self.lose(f"delivery {self._delivered + 1} is missing")
                break
            self._delivered = number
            pending = int(fields[first + 3])
            tombstone = headers is not None and headers.get(OPERATION) == TOMBSTONE
            wall_ms = int(fields[first + 2]) // 1_000_000
            records.append(Record(message.subject, message.data, int(fields[first]), tombstone, wall_ms))
        return records, pending

    async def _control(self, message: Msg, headers: dict[str, str]) -> None:
        """Flow control and heartbeats; everything that was sent before has been taken."""
        if message.reply:
            await self._requests.publish(message.reply, b"", None)
            return
        if stalled := headers.get("Nats-Consumer-Stalled"):
            await self._requests.publish(stalled, b"", None)
            return
        if int(headers.get("Nats-Last-Consumer", 0)) > self._delivered:
            self.lose("a heartbeat tells of more than was delivered")
        # The count of pending records may be off after overwrites; a heartbeat is sent only when there are none.
        self._idle = True


def _connection_changed(consumer: _Consumer, connected: bool) -> None:
    if not connected:
        consumer.lose("the connection was lost")


async def follow(
    bus: Bus, requests: Requests, stream: str, filters: Sequence[str], after: int
) -> AsyncGenerator[Batch, None]:
    """See `RecordLog.tail`."""
    name = requests.unique()
    failures = attempts = 0
    seen = after
    created = ""
    complete = False
    try:
        while True:
            await bus.wait_connected()
            consumer = _Consumer(bus, requests, stream, name)
            forget_listener = bus.on_change(partial(_connection_changed, consumer))
            attempts += 1
            try:
                empty = await consumer.open(filters, seen, again=attempts > 1)
                if created not in ("", consumer.created):
                    raise Expired(f"{stream} was made anew at {consumer.created}")
                created = consumer.created
                failures = 0
                if empty is not None and (not complete or empty.sequence > seen):
                    complete, seen = True, empty.sequence
                    yield empty
                while True:
                    batch = await consumer.next_batch(complete)
                    complete, seen = complete or batch.caught_up, max(seen, batch.sequence)
                    yield batch
            except (_Lost, Temporary) as error:
                # Said once for each loss, not for each attempt to come back.
                log.log(
                    logging.DEBUG if failures else logging.INFO, "%s: reading anew after %d: %s", stream, seen, error
                )
                failures += 1
            finally:
                forget_listener()
                await consumer.close()
            await asyncio.sleep(RECONNECT.delay_s(failures - 1, random.random()))
    finally:
        # Nobody waits for the answer: if this is lost the server removes the consumer after a while.
        with suppress(Temporary):
            await requests.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}", b"", None)
