"""One connection between two processes of a node: `AskingLink` at the caller's end, `AnsweringLink` at the other.

Invariants: a peer that is not of our user, or does not speak the protocol, is cut off and hurts nobody else; what is
sent on a link after its end is lost without an error, as on the bus.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from socket import socket

from choregos.foundation.errors import Unavailable
from choregos.messaging.backends.neighbour_frames import GREETING, FrameError, FrameReader, frame, last_taken
from choregos.messaging.backends.outflow import Outflow
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.neighbourhood import is_ours
from choregos.messaging.replies import Replies
from choregos.messaging.transport import OnMessage

STALLED_S = 10.0
"""A caller that reads no answers for this long is cut off. One whose requests are not read waits for its deadlines: the
agents of a worker may block it for longer, and then go on."""

_TOKEN_LENGTH_MAX = 64

log = logging.getLogger(__name__)


class _Link(asyncio.Protocol, ABC):
    """What both ends do.

    Attributes:
        outflow: for what is sent.
        ended: nothing comes or goes any more.
    """

    def __init__(self) -> None:
        self.outflow = Outflow()
        self.ended = False
        self._reader = FrameReader(self._arrived)
        self._transport: asyncio.Transport | None = None

    @abstractmethod
    def _begin(self) -> None:
        """The connection is there, and the peer is of our user."""

    @abstractmethod
    def _arrived(self, number: int, payload: bytes) -> None:
        """A frame; raises `FrameError` if there can be no such one now."""

    @abstractmethod
    def _over(self) -> None:
        """The link has just ended."""

    def close(self) -> None:
        """Ends it; what was sent still goes out."""
        if self._transport is not None:
            self.outflow.flush()
            self._transport.close()
        self._end()

    def abort(self) -> None:
        """Ends it now."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self.outflow.begin(transport)
        peer: socket = transport.get_extra_info("socket")
        if self.ended:
            self.abort()
        elif is_ours(peer):
            self._begin()
        else:
            log.warning("a process of another user was refused")
            self.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except FrameError as error:
            log.warning("a neighbour was cut off: %s", error)
            self.abort()

    def eof_received(self) -> None:
        # Not `close`: it would wait for the peer to read what it will not.
        self.abort()

    def pause_writing(self) -> None:
        self.outflow.pause()

    def resume_writing(self) -> None:
        self.outflow.resume()

    def connection_lost(self, _error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self.outflow.end()
            self._over()


class AskingLink(_Link):
    """Made by `loop.create_unix_connection`.

    Args:
        on_useless: told when it takes no more requests, and when it has ended.

    Attributes:
        takes_requests: it is greeted, and neither side has ended it.
        settled: set once it is known whether it takes requests.
        replies: the requests that wait for it.
    """

    def __init__(self, subject: str, deadlines: Deadlines, on_useless: Callable[[AskingLink], None]) -> None:
        super().__init__()
        self.subject = subject
        self.takes_requests = False
        self.settled = asyncio.Event()
        self.replies = Replies("", self._send, deadlines)
        self._on_useless = on_useless
        self._asked_before = 0

    def idles(self) -> bool:
        """Whether nothing was asked since the last time this was called, and nothing waits."""
        asked_before, self._asked_before = self._asked_before, self.replies.asked
        return not self.replies and asked_before == self._asked_before

    def _begin(self) -> None:
        """The other side speaks first."""

    def _arrived(self, number: int, payload: bytes) -> None:
        if number and self.settled.is_set():
            self.replies.deliver(number, payload)
        elif not number and self.settled.is_set():
            self._no_more()
            self.replies.refuse_after(int.from_bytes(payload, "big"), "the agent's worker takes no more calls")
        elif not number and payload.startswith(GREETING) and len(payload) <= len(GREETING) + _TOKEN_LENGTH_MAX:
            self.replies.prefix = payload[len(GREETING) :].decode("ascii", "replace") + "."
            self.takes_requests = True
            self.settled.set()
        else:
            raise FrameError("it did not greet")

    def _send(self, _subject: str, payload: bytes, number: int) -> asyncio.Future[None] | None:
        if self.ended:
            raise Unavailable("the agent's worker has ended")
        if number and self.outflow.room is not None:
            return self.outflow.room
        self.outflow.write(frame(number, payload))
        return None

    def _no_more(self) -> None:
        self.takes_requests = False
        self.settled.set()
        self._on_useless(self)

    def _over(self) -> None:
        self._no_more()
        self.replies.abandon(lambda _: True)
        self.replies.close()


class AnsweringLink(_Link):
    """Made by a server of `loop.create_unix_server`.

    A peer that does not read what it is answered is not read any further, and after `STALLED_S` cut off: it may hold up
    no more requests than it had sent by then.

    Args:
        token: its own, which nobody else can guess: reply subjects of its requests are `<token>.<number>`.
        on_message: takes its requests.
        on_end: called once.
    """

    def __init__(self, token: str, on_message: OnMessage, on_end: Callable[[AnsweringLink], None]) -> None:
        super().__init__()
        self.token = token
        self._prefix = f"{token}."
        self._on_message = on_message
        self._on_end = on_end
        self._last_taken = 0
        self._leaving = False
        self._stall_timer: asyncio.TimerHandle | None = None

    def answer(self, number: int, payload: bytes) -> None:
        """
        Raises:
            PayloadTooLarge: it was not sent.
        """
        self.outflow.write(frame(number, payload))

    def leave(self) -> None:
        """Takes nothing more, and says what was taken; that is still answered."""
        self._leaving = True
        self.outflow.write(last_taken(self._last_taken))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._transport is not None:
            self._transport.pause_reading()
            self._stall_timer = asyncio.get_running_loop().call_later(STALLED_S, self._stalled)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_timer()
        if self._transport is not None:
            self._transport.resume_reading()

    def _begin(self) -> None:
        self.outflow.write(frame(0, GREETING + self.token.encode()))

    def _arrived(self, number: int, payload: bytes) -> None:
        if self._leaving:
            return
        if number:
            self._last_taken = number
        try:
            self._on_message(payload, f"{self._prefix}{number}" if number else "")
        except Exception:
            log.exception("handling a neighbour's message failed")

    def _stalled(self) -> None:
        log.warning("a neighbour that read no answers for %g s was cut off", STALLED_S)
        self.abort()

    def _forget_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _over(self) -> None:
        self._forget_timer()
        self._on_end(self)


class Refusal(asyncio.Protocol):
    """For a connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
