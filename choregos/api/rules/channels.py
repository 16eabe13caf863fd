"""Several streams over one WebSocket, as kubectl's `exec` has them: `v5.channel.k8s.io`, `v4.channel.k8s.io`. Pure.

The first byte of a message is its channel, the rest is what goes through it. The server writes 1 (standard output), 2
(standard error) and, once and last, 3: a `metav1.Status` that says how it ended. The client writes 0 (standard input),
4 (the size of its terminal, as JSON) and, in v5 only, 255 with a channel: that one is at its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from choregos.api.rules import status
from choregos.api.rules.status import Refusal, bad_request

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
"""The best first."""

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
SIZE_MAX = 0xFFFF


@dataclass(frozen=True, slots=True)
class Data:
    """For standard input."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """There is no more for standard input."""


class Size(msgspec.Struct, frozen=True):
    """Of the client's terminal, in characters."""

    columns: int = msgspec.field(name="Width", default=0)
    rows: int = msgspec.field(name="Height", default=0)


Message = Data | EndOfInput | Size

_decode_size = msgspec.json.Decoder(Size).decode


def choose(offered: list[str]) -> str:
    """The protocol to speak. Raises: Refusal 400, none of those offered is known."""
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    raise bad_request(
        f"no WebSocket subprotocol that was offered is served ({', '.join(offered) or 'none was'}); "
        f"this server speaks {' and '.join(PROTOCOLS)}"
    )


def read(message: bytes, protocol: str) -> Message | None:
    """What a message of the client says; None if that is nothing, or something for a channel that there is not.

    Raises:
        ValueError: it is no message of the protocol.
    """
    if not message:
        return None
    channel, rest = message[0], message[1:]
    if channel == STDIN:
        return Data(rest) if rest else None
    if channel == RESIZE:
        try:
            size = _decode_size(rest)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"the size of a terminal cannot be read: {error}") from error
        sensible = 0 < size.columns <= SIZE_MAX and 0 < size.rows <= SIZE_MAX
        return size if sensible else None
    if channel == CLOSE and protocol == V5:
        if len(rest) != 1:
            raise ValueError("the end of a channel must name it in one byte")
        return EndOfInput() if rest[0] == STDIN else None
    return None


def write(channel: int, data: bytes) -> bytes:
    return bytes((channel,)) + data


def ended(code: int) -> bytes:
    """The last message: the command has ended with this exit status."""
    if code == 0:
        return _status({"metadata": {}, "status": "Success"})
    message = f"command terminated with non-zero exit code: exit status {code}"
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return _status(status.document(500, "NonZeroExitCode", message, {"causes": causes}))


def failed(message: str) -> bytes:
    """The last message: the command could not be run, or not be followed to its end."""
    return _status(status.document(500, "InternalError", message, {}))


def _status(document: dict[str, object]) -> bytes:
    return write(ERROR, msgspec.json.encode(document))


def upgrade_required() -> Refusal:
    """For a client that asks over plain HTTP."""
    return bad_request(
        f"exec is served over WebSockets only ({' or '.join(PROTOCOLS)}): kubectl 1.31 and later speak that by "
        "themselves, 1.29 and 1.30 with KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true"
    )
