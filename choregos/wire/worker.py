"""The node's protocol with its workers: length-prefixed msgpack frames over a Unix socket pair.

A frame is a four-byte big-endian length and one tagged msgpack array. The node speaks `ToWorker`, the worker
`ToNode`. The socket is also the worker's lifeline: when either side closes it the worker ends.
"""

from __future__ import annotations

import msgspec

FRAME_BYTES_MAX = 16 * 1024 * 1024


class Configure(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """First frame: who the worker is and how it reaches the bus.

    Attributes:
        host: the worker's name, unique over all time: the last token of its call subject.
        servers, user, password: of nats-server, with a worker's permissions.
        max_in_flight: calls served at once per agent before `Overloaded` is answered.
        dedicated: it will have one agent only, whose `env` it may put into its process environment.
        sockets: the directory where the workers of its node meet for calls; empty: they call over the bus.
    """

    host: str
    node: str
    region: str
    namespace: str
    servers: tuple[str, ...]
    user: str
    password: str
    max_in_flight: int = 1000
    dedicated: bool = False
    sockets: str = ""


class Template(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the worker needs of an agent template.

    Attributes:
        digest: its name.
        python: `module:Class`; empty if `entry_point` is set.
        entry_point: name in the entry point group `choregos.agents`.
        paths: directories put on the import path, in order.
        capabilities: those the template declares.
        env: variables the agent sees as `self.env` (a dedicated worker also sets them in its process).
        settings: free-form JSON of `spec.template.settings`, decoded for the agent as `self.settings`.
        liveness, readiness: probes; None for none.
        labels: the template's labels.
    """

    digest: str
    name: str
    python: str = ""
    entry_point: str = ""
    paths: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    settings: bytes = b"{}"
    liveness: Probe | None = None
    readiness: Probe | None = None
    labels: tuple[tuple[str, str], ...] = ()
    start_timeout_s: float = 60.0
    block_timeout_s: float = 10.0


class Probe(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A method of the agent that is asked regularly; it passes unless it raises, returns False or takes too long."""

    method: str
    period_s: float = 10.0
    timeout_s: float = 1.0
    failure_threshold: int = 3
    initial_delay_s: float = 0.0


class StartAgent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    uid: str
    name: str
    template: str


class Start(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Start these agents, whose templates are all sent along. Answered by one or more `Started`."""

    templates: tuple[Template, ...]
    agents: tuple[StartAgent, ...]


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Drain these agents for up to `grace_s` seconds, run on_stop, forget them. Answered by `Stopped`, or `Clinging`.

    One more `Stop` makes the time of those that drain shorter, never longer.
    """

    uids: tuple[str, ...]
    grace_s: float


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=4):
    number: int


class Candidate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One agent that may serve a call, with what is known of its performance.

    Attributes:
        host: worker it runs on.
        latency_ms: moving mean of its answers; 0 while unknown.
        success: moving share of answers that were no failure, 0 to 1.
        in_flight: calls it was seen serving.
    """

    name: str
    uid: str
    host: str
    latency_ms: float = 0.0
    success: float = 1.0
    in_flight: float = 0.0


class Resolved(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Answers `Resolve`: best first, at most 32; empty if none is ready.

    Attributes:
        message: why there is none, for the caller's error.
        ttl_s: how long the caller may rely on it.
    """

    request: int
    candidates: tuple[Candidate, ...]
    message: str = ""
    ttl_s: float = 1.0


class Shutdown(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Stop every agent within `grace_s` seconds, then end the process with status 0."""

    grace_s: float


class Invalidate(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """These hosts are gone: drop routes to them."""

    hosts: tuple[str, ...]


class AskHandling(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """How long have the agents handled calls lately? Answered by `Handling`, at once or after a first second."""

    request: int


ToWorker = Configure | Start | Stop | Ping | Resolved | Shutdown | Invalidate | AskHandling


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The worker is connected to the bus and takes agents."""

    pid: int


RUNTIME_NOT_FOUND = "RuntimeNotFound"
"""Reason of a start that ended because nothing installed has what the template names: no failure of the agent."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a start ended.

    Attributes:
        reason: empty on success, else `RuntimeNotFound`, `ImportFailed`, `StartFailed`, `StartTimeout`, `Blocked` or
            `StaleCode` (the worker holds an older version of the template's modules: start it in another).
    """

    uid: str
    reason: str = ""
    message: str = ""
    capabilities: tuple[str, ...] = ()
    ready: bool = True


class Started(msgspec.Struct, frozen=True, array_like=True, tag=2):
    outcomes: tuple[Outcome, ...]


class Stopped(msgspec.Struct, frozen=True, array_like=True, tag=3):
    uids: tuple[str, ...]


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A running agent has ended by itself: `ProbeFailed`, `Blocked` (interrupted), `Crashed`."""

    uid: str
    reason: str
    message: str


class Readiness(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The readiness probe changed its mind."""

    uid: str
    ready: bool
    message: str = ""


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Sent by the worker's event loop, so its absence means the loop is blocked."""

    number: int


class Blocked(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """This agent has kept the event loop for `seconds`; the watchdog has interrupted and ended it.

    What cannot be interrupted is not reported: it silences the worker, and the node reads the worker's marks.

    Attributes:
        stack: where it was, outermost call first.
    """

    uid: str
    seconds: float
    stack: str


class Resolve(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Where are the agents of this name, or with this capability and these labels? Answered by `Resolved`."""

    request: int
    agent: str = ""
    capability: str = ""
    selector: str = ""


class CallStats(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one caller's process saw of one agent since the last report."""

    uid: str
    calls: int
    failures: int
    latency_ms_sum: float
    in_flight: int


class Stats(msgspec.Struct, frozen=True, array_like=True, tag=9):
    agents: tuple[CallStats, ...]


class LogLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record of an agent's log; `uid` is empty for the worker itself, `level` a `logging` name."""

    uid: str
    wall_ms: int
    level: str
    message: str


class Logs(msgspec.Struct, frozen=True, array_like=True, tag=10):
    lines: tuple[LogLine, ...]


class Handling(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Answers `AskHandling`.

    Attributes:
        seconds: processor time by uid, of the last 15 to 30 seconds or as long as it is measured; agents that are
            left out had nothing.
    """

    request: int
    seconds: tuple[tuple[str, float], ...]


class Clinging(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """This agent has ended, and its code has not, though it was cancelled. Only the end of the worker ends it.

    Attributes:
        message: what still runs.
    """

    uid: str
    message: str


ToNode = Hello | Started | Stopped | Failed | Readiness | Pong | Blocked | Resolve | Stats | Logs | Handling | Clinging
