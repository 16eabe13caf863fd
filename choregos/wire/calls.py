"""Frames of a call from agent to agent: msgpack arrays with a tag in front.

Arguments and results are msgpack values embedded raw, so that a frame is decoded without decoding what it carries,
and a typed method decodes its arguments straight into its own types.
"""

from __future__ import annotations

import msgspec

PAYLOAD_BYTES_MAX = 1_000_000
"""Largest frame; a nats-server with its default `max_payload` takes it too. Larger data belongs in an object store."""


class Request(msgspec.Struct, frozen=True, array_like=True, tag=1, tag_field="frame", gc=False):
    """Asks one agent of the host to run one method.

    Attributes:
        agent: the agent's name; the namespace is the subject's.
        method: method name; empty means the only method of `capability`.
        timeout_ms: time left when this was sent, in milliseconds: durations travel, clocks need not agree
            (as gRPC's `grpc-timeout`).
        arguments: a msgpack map of argument name to value.
        caller: `namespace/name` of the calling agent, or the user's name.
        capability: the capability the caller asked for, empty if it named the agent.
        uid: the agent's uid if the caller knows it; the host answers `Moved` if it is another.
    """

    agent: str
    method: str
    timeout_ms: int
    arguments: msgspec.Raw
    caller: str = ""
    capability: str = ""
    uid: str = ""


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=2, tag_field="frame", gc=False):
    """The caller no longer waits for the request that had this reply subject."""

    reply: str


class Result(msgspec.Struct, frozen=True, array_like=True, tag=3, tag_field="frame", gc=False):
    """The method returned.

    Attributes:
        value: the result as one msgpack value.
        service_us: time the method took, microseconds.
        in_flight: calls the agent was serving when it answered, this one included: the load seen by the caller.
    """

    value: msgspec.Raw
    service_us: int = 0
    in_flight: int = 0


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=4, tag_field="frame", gc=False):
    """The method did not return.

    Attributes:
        code: a key of `choregos.foundation.errors.CALL_ERRORS`, or `Moved`: the agent is not on this host (any
            more), resolve again and repeat.
        type: class name of the exception that the method raised.
        traceback: the agent's traceback as text.
    """

    code: str
    message: str
    type: str = ""
    traceback: str = ""
    in_flight: int = 0


Inbound = Request | Cancel
Outbound = Result | Failure

MOVED = "Moved"
