"""Where nats-server is and where answers go.

Apart from `choregos.foundation.bus.connection`, so that who needs no nats-py need not import it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MESSAGE_BYTES_MAX = 1_048_576 + 131_072
"""Largest message that our nats-server takes, header and payload together: it ends the connection of who sends more.

An object of a client has 1 MiB at most; the rest is room for what the system adds to it, and for headers.
"""


@dataclass(frozen=True, slots=True)
class BusAddress:
    """Where nats-server is and who we are there.

    Attributes:
        servers: `nats://host:port`, any of one cluster.
        user, password: empty when the server asks for none.
    """

    servers: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)


def inbox_prefix(user: str) -> str:
    """First token of the subjects on which `user` gets answers: each its own, so that permissions keep them apart."""
    return f"_INBOX_{user}" if user else "_INBOX"
