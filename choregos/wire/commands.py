"""Commands that a node runs beside an agent, and connections to its ports: requests on `n.<region>._.<node>.commands`
and their one reply.

Whoever runs a command pulls its output and pushes its input, each with one request at a time: so there is never more
under way than was asked for, and a node that hears nothing more of a command knows that nobody wants it.
"""

from __future__ import annotations

import msgspec

COMMANDS = "commands"
VERSION = 1

STDOUT, STDERR = 1, 2

DATA_BYTES_MAX = 256 * 1024
"""Of input in one request. Output in one reply is at most half as much again."""

SILENCE_S = 12.0
"""A command of which its node hears nothing for so long is ended."""


class StartCommand(msgspec.Struct, frozen=True, array_like=True, tag=1, tag_field="request"):
    """Run this.

    Attributes:
        uid: of the agent beside which it runs, in the environment of its worker.
        tty: on a terminal of `columns` and `rows` (0: as the system makes it), with one stream for all output.
        stdin: it gets input by `WriteCommand`; else it has none.
    """

    uid: str
    arguments: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    columns: int = 0
    rows: int = 0


class ReadCommand(msgspec.Struct, frozen=True, array_like=True, tag=2, tag_field="request"):
    """What has it written, or how did it end? Waits up to `wait_s` seconds for either."""

    command: str
    wait_s: float = 0.0


class WriteCommand(msgspec.Struct, frozen=True, array_like=True, tag=3, tag_field="request"):
    """Input for it; answered once it has been taken, or with how much of it was, after `wait_s` seconds.

    Without data it only says that the command is still wanted.

    Attributes:
        end: there is no more.
        columns, rows: the terminal has this size from now on; 0: as before.
    """

    command: str
    data: bytes = b""
    end: bool = False
    columns: int = 0
    rows: int = 0
    wait_s: float = 0.0


class EndCommand(msgspec.Struct, frozen=True, array_like=True, tag=4, tag_field="request"):
    """It is not wanted any more."""

    command: str


class OpenConnection(msgspec.Struct, frozen=True, array_like=True, tag=5, tag_field="request"):
    """Connect to this port, on which the agent's worker listens; the connection is read, fed and ended as a command is.

    What comes from the agent is `STDOUT`, why it has ended early `STDERR`, and its status 0.
    """

    uid: str
    port: int


CommandRequest = StartCommand | ReadCommand | WriteCommand | EndCommand | OpenConnection


class CommandReply(msgspec.Struct, frozen=True, array_like=True):
    """
    Attributes:
        command: names the one that was started.
        refusal: why not; everything else says nothing then.
        output: (`STDOUT` or `STDERR`, bytes) in the order in which they were read.
        status: exit status, once all output was handed out; -1 until then. 128 and more: a signal ended it.
        taken: bytes of the input that need not be sent again.
    """

    v: int
    command: str = ""
    refusal: str = ""
    output: tuple[tuple[int, bytes], ...] = ()
    status: int = -1
    taken: int = 0
