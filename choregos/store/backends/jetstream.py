"""The record log in a JetStream stream that keeps one message per subject.

How the port's guarantees are met (checked against nats-server 2.15.1):

- Compare-and-set is `Nats-Expected-Last-Subject-Sequence`; a wrong one is answered with error 10071.
- A batch is JetStream's atomic batch publish: its messages carry id and number, only the last one, which commits, is
  answered, and all checks are made then. So a batch is sent without waiting and costs one round trip.
- A fence is the batch's first message: it goes to the fence subject and is conditional on the last sequence of the
  epoch subject. A single write that has no condition of its own carries the epoch's condition itself; those that have
  one travel in groups (`group_commit.py`).
- A record is refused before it is sent if it might not fit together with its headers: nats-server closes the
  connection of who sends more than `max_payload`, headers counted, and takes everything else with it.
- A write whose answer is lost raises `Temporary` and is never sent again from here.

What is missing: a single-replica server that is killed while it commits a batch sometimes comes back with only the
first records of it (5 of 72 kills, with any `sync_interval`). The writer was told `Temporary`; see the port.

It does not decide which streams exist: `provision` is called by whoever owns the stream.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Self

import msgspec

from choregos.foundation.bus.connection import Bus
from choregos.foundation.clock import parse_rfc3339
from choregos.foundation.errors import ChoregosError, Conflict, Deposed, Permanent, Temporary, TooLarge
from choregos.store.backends.group_commit import GroupCommit
from choregos.store.backends.jetstream_tail import OPERATION, TOMBSTONE, follow
from choregos.store.backends.requests import Requests
from choregos.store.port import HEADERS_BYTES_MAX, Batch, Fence, Record, Write, check_batch, check_sizes

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"

NAME_IN_USE = 10058
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
MESSAGE_TOO_LARGE = 10054
WRONG_SEQUENCE = frozenset({10071, 10164})

BATCHES_IN_FLIGHT_MAX = 8
"""nats-server keeps at most 50 open per stream, of all writers together."""

CONSUMERS_MAX = 10_000
"""Readers of one stream, of all processes together; nats-server's default is 1,000, each takes some 45 kB there."""

SUBJECTS_PAGE = 100_000
"""Most subjects in one answer of `STREAM.INFO`."""


class StreamState(msgspec.Struct, frozen=True):
    """How a stream is.

    Attributes:
        revision: of its last record; 0 if there is no stream.
        lost_bytes: of records that nats-server found when it started and could not read.
    """

    revision: int = 0
    lost_bytes: int = 0


class _PubAck(msgspec.Struct, gc=False):
    seq: int = 0
    error: dict[str, Any] | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


class JetStreamLog:
    """A `RecordLog`; see the port for the meaning of its methods. An async context manager.

    Args:
        before_write: called before each write with its first subject; what it raises is raised instead of writing.
    """

    def __init__(self, bus: Bus, stream: str, *, before_write: Callable[[str], None] = lambda _: None) -> None:
        self._bus = bus
        self.stream = stream
        self._before_write = before_write
        self._requests = Requests(bus)
        self._batches = asyncio.Semaphore(BATCHES_IN_FLIGHT_MAX)
        self._groups = GroupCommit(self._commit)

    async def __aenter__(self) -> Self:
        await self._requests.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._groups.close()
        await self._requests.__aexit__(*error)

    async def provision(self, subjects: Sequence[str]) -> None:
        """Creates the stream, or changes it to these settings; nothing happens if it has them.

        Raises:
            Permanent: the server refuses them, for example because another stream has one of the subjects.
            Temporary: JetStream cannot be reached.
        """
        settings = {
            "name": self.stream,
            "subjects": list(subjects),
            "max_msgs_per_subject": 1,
            "discard": "old",
            "storage": "file",
            "num_replicas": 1,
            "max_consumers": CONSUMERS_MAX,
            "allow_msg_ttl": True,
            "allow_atomic": True,
            "allow_direct": True,
        }
        answer = await self._requests.call(f"STREAM.CREATE.{self.stream}", settings)
        if _code(answer) == NAME_IN_USE:
            answer = await self._requests.call(f"STREAM.UPDATE.{self.stream}", settings)
        if "error" in answer:
            raise self._error(answer["error"])

    async def state(self) -> StreamState:
        """How the stream is now. Raises: Temporary, JetStream cannot be reached."""
        answer = await self._requests.call(f"STREAM.INFO.{self.stream}", {})
        if _code(answer) == STREAM_NOT_FOUND:
            return StreamState()
        if "error" in answer:
            raise self._error(answer["error"])
        state = answer["state"]
        return StreamState(state["last_seq"], (state.get("lost") or {}).get("bytes", 0))

    async def append(self, write: Write, *, fence: Fence | None = None) -> int:
        self._check_sizes([write])
        self._before_write(write.subject)
        if fence is not None and write.expected is not None:
            return await self._groups.append(write, fence)
        headers = _headers(write)
        if fence is not None:
            headers |= _fence_headers(fence)
        ack = _decode_ack(await self._requests.request(write.subject, write.data, headers))
        if ack.error is None:
            return ack.seq
        if fence is not None and ack.error.get("err_code") in WRONG_SEQUENCE:
            raise Deposed(f"epoch {fence.epoch} of {fence.epoch_subject} is over")
        raise self._error(ack.error)

    async def append_batch(self, writes: Sequence[Write], *, fence: Fence | None = None) -> Sequence[int]:
        check_batch(writes)
        self._check_sizes(writes)
        self._before_write(writes[0].subject)
        return await self._commit(writes, fence)

    def _check_sizes(self, writes: Sequence[Write]) -> None:
        """Raises: TooLarge."""
        check_sizes(writes, self._bus.client.max_payload - HEADERS_BYTES_MAX)

    async def _commit(self, writes: Sequence[Write], fence: Fence | None) -> Sequence[int]:
        messages = [(write.subject, write.data, _headers(write)) for write in writes]
        if fence is not None:
            messages.insert(0, (fence.subject, b"", _fence_headers(fence)))
        async with self._batches:
            ack = await self._publish_batch(messages)
        if ack.error is None:
            return range(ack.seq - len(writes) + 1, ack.seq + 1)
        if fence is not None and ack.error.get("err_code") in WRONG_SEQUENCE and await self._is_over(fence):
            raise Deposed(f"epoch {fence.epoch} of {fence.epoch_subject} is over")
        raise self._error(ack.error)

    async def _publish_batch(self, messages: Sequence[tuple[str, bytes, dict[str, str]]]) -> _PubAck:
        batch = self._requests.unique()
        for number, (subject, data, headers) in enumerate(messages, 1):
            headers["Nats-Batch-Id"] = batch
            headers["Nats-Batch-Sequence"] = str(number)
            if number < len(messages):
                await self._requests.publish(subject, data, headers)
        subject, data, headers = messages[-1]
        headers["Nats-Batch-Commit"] = "1"
        return _decode_ack(await self._requests.request(subject, data, headers))

    async def _is_over(self, fence: Fence) -> bool:
        epoch = await self.last(fence.epoch_subject)
        return epoch is None or epoch.sequence != fence.epoch

    async def last(self, subject: str) -> Record | None:
        message = await self._last_message(subject)
        if message is None:
            return None
        return Record(
            subject,
            base64.b64decode(message.get("data", "")),
            message["seq"],
            f"{OPERATION}: {TOMBSTONE}".encode() in base64.b64decode(message.get("hdrs", "")),
            parse_rfc3339(message["time"]),
        )

    async def newest(self) -> int:
        message = await self._last_message(">")
        return 0 if message is None else int(message["seq"])

    async def _last_message(self, filter: str) -> dict[str, Any] | None:
        answer = await self._requests.call(f"STREAM.MSG.GET.{self.stream}", {"last_by_subj": filter})
        if _code(answer) == NO_MESSAGE:
            return None
        if "error" in answer:
            raise self._error(answer["error"])
        message: dict[str, Any] = answer["message"]
        return message

    def tail(self, subjects: Sequence[str] = (">",), *, after: int = 0) -> AsyncGenerator[Batch, None]:
        return follow(self._bus, self._requests, self.stream, subjects, after)

    async def subjects(self, filter: str = ">") -> frozenset[str]:
        found: set[str] = set()
        while True:
            question = {"subjects_filter": filter, "offset": len(found)}
            answer = await self._requests.call(f"STREAM.INFO.{self.stream}", question)
            if "error" in answer:
                raise self._error(answer["error"])
            page = answer["state"].get("subjects") or {}
            found.update(page)
            if len(page) < SUBJECTS_PAGE:
                return frozenset(found)

    def _error(self, error: Mapping[str, Any]) -> ChoregosError:
        """JetStream's error as ours: by its code where it has a meaning for callers, else by its HTTP-like class."""
        code, text = error.get("err_code"), f"{self.stream}: {error.get('description', 'unknown error')}"
        if code in WRONG_SEQUENCE:
            return Conflict(text)
        if code == MESSAGE_TOO_LARGE:
            return TooLarge(text)
        if code == STREAM_NOT_FOUND or error.get("code", 500) >= 500:
            return Temporary(text)
        if code in _NOTHING_STORED:
            return Temporary(text)
        return Permanent(text)


_NOTHING_STORED = frozenset({10174, 10175, 10176, 10177, 10210, 10211})
"""A batch that the server gave up: too many at once, or a part of it was lost with the connection."""


def _code(answer: Mapping[str, Any]) -> int | None:
    code: int | None = answer.get("error", {}).get("err_code")
    return code


def _headers(write: Write) -> dict[str, str]:
    headers: dict[str, str] = {}
    if write.expected is not None:
        headers[_EXPECTED] = str(write.expected)
    if write.tombstone:
        headers[OPERATION] = TOMBSTONE
    if write.ttl_s is not None:
        headers["Nats-TTL"] = f"{write.ttl_s}s"
    return headers


def _fence_headers(fence: Fence) -> dict[str, str]:
    return {_EXPECTED: str(fence.epoch), _EXPECTED_SUBJECT: fence.epoch_subject}
