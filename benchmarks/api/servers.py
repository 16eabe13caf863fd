"""An API server to put load on: where it is, how a client proves itself, what it holds of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleets import memory_bytes
from choregos.assembly.machine.up import Machine


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs.

    Attributes:
        name: for tables.
        api: which of its processes is the API server itself, as `memory` names it.
        authority: certificate of the CA that has signed the server's.
        identity: the administrator's certificate and key in one file.
        memory: USS of each of its processes, in bytes.
    """

    name: str
    api: str
    url: str
    authority: Path
    identity: Path
    kubeconfig: Path
    memory: Callable[[], dict[str, int]]

    @property
    def api_bytes(self) -> int:
        return self.memory()[self.api]


def ours(machine: Machine) -> Server:
    directory = machine.directory
    return Server(
        "choregos",
        "api",
        machine.url,
        directory.pki / "ca.crt",
        directory.pki / "user-admin.pem",
        directory.kubeconfig,
        lambda: memory_bytes(machine),
    )
