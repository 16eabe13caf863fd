"""What the API server asks of nodes, as ports: logs, usage, commands. `choregos.assembly.services.of_node` fills them.

Nothing here acts. A node may be silent: each port says what that means for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from choregos.store.instance import Instance

T = TypeVar("T")

LogLine = tuple[int, str, str]
"""Wall clock in milliseconds, level, text."""


@dataclass(frozen=True, slots=True)
class LogChoice:
    """Which lines of a log.

    Attributes:
        tail_lines: only so many of the last ones; None: all that are kept.
        since_ms: only those of this wall clock or later, milliseconds.
        follow: go on until the iterator is closed.
        previous: those written before the agent was last started again.
    """

    tail_lines: int | None = None
    since_ms: int = 0
    follow: bool = False
    previous: bool = False


class NodeLogs(Protocol):
    """Reads the log of an agent from the node that runs it."""

    def lines(self, instance: Instance, choice: LogChoice) -> AsyncIterator[LogLine | None]:
        """The chosen lines of the agent, oldest first; None, while following, when there was no news for a while.

        Raises:
            Temporary: the node cannot be reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class Use:
    """What is used of a machine.

    Attributes:
        cores: processor time, as an average of the last `window_s` seconds.
        memory: bytes.
        wall_ms: when it was measured, by the node's wall clock.
    """

    cores: float
    memory: int
    window_s: float
    wall_ms: int


@dataclass(frozen=True, slots=True)
class AgentUse:
    """What an agent uses of its node: a share of what its worker does.

    Attributes:
        worker: name of the worker.
        agents: how many share the worker, itself included.
        handling: its part of the processor time is that of handling calls; else even, as none has handled any lately.
    """

    use: Use
    worker: str
    agents: int
    handling: bool


@dataclass(frozen=True, slots=True)
class Measured(Generic[T]):
    """Attributes:
    found: by uid of the agent or name of the node.
    silent: nodes that did not answer.
    """

    found: Mapping[str, T]
    silent: tuple[str, ...]


class NodeUsage(Protocol):
    """Measures at the nodes. Raises nothing: who does not answer is left out."""

    async def of_agents(self, instances: Sequence[Instance]) -> Measured[AgentUse]: ...

    async def of_nodes(self, names: Sequence[str]) -> Measured[Use]: ...


@dataclass(frozen=True, slots=True)
class Command:
    """What shall run beside an agent.

    Attributes:
        tty: on a terminal, with one stream for all output.
        stdin: it gets input.
    """

    arguments: tuple[str, ...]
    tty: bool = False
    stdin: bool = False


class RunningCommand(Protocol):
    """One command. Every method raises `Temporary` once its node cannot be reached or has lost it.

    Output is held back at the node until it is read, and input until it is taken.
    """

    async def read(self) -> tuple[Sequence[tuple[int, bytes]], int]:
        """Waits for output, as (1 standard output or 2 standard error, bytes), and the exit status.

        The status is -1 until all output was read; nothing may be read afterwards.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Returns when it was taken, or nobody takes it any more."""
        ...

    async def finish_input(self) -> None: ...

    async def resize(self, columns: int, rows: int) -> None: ...


class NodeCommands(Protocol):
    """Runs commands beside agents, and connects to their ports."""

    def run(self, instance: Instance, command: Command) -> AbstractAsyncContextManager[RunningCommand]:
        """The command runs while the context is open; leaving it ends the command, and all that it has started.

        Raises:
            Temporary: the node cannot be reached.
            Permanent: the node refuses it, and says why.
        """
        ...

    def connect(self, instance: Instance, port: int) -> AbstractAsyncContextManager[RunningCommand]:
        """A connection to a port that the agent's worker listens on; leaving the context ends it.

        What comes from the agent is standard output, why it has ended early standard error, the status 0.

        Raises: as `run`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Nodes:
    """All that nodes are asked."""

    logs: NodeLogs
    usage: NodeUsage
    commands: NodeCommands
