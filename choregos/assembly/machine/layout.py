"""The data directory: what lies where, who may use it, and what the last start recorded there.

Invariant: one `choregos up` at a time per directory (an advisory lock that the kernel drops with the process).
Everything in it is private to its owner (mode 0700): it holds keys.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from choregos.assembly.machine.disk import Disk
from choregos.foundation.errors import Permanent
from choregos.foundation.files import private_directory, write_atomic


class MachineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of one machine must agree on; written by `up`, read by the others.

    Attributes:
        machine: unique and lasting: the identity under which this machine holds leases. The lock on the data directory
            sees to it that there is one of it, so a process that is restarted takes its own leases over at once.
        region: the region this machine belongs to.
        node: name of its AgentNode.
        api_host, api_port: where the API server listens.
        bus_servers: URLs of nats-server without credentials.
        workers: shared worker processes per namespace.
        capacity: declared capacity by resource name, as quantities; empty: measure it.
        working_directory: what relative paths of runtimes are relative to.
    """

    machine: str
    region: str
    node: str
    api_host: str
    api_port: int
    bus_servers: tuple[str, ...]
    workers: int
    capacity: dict[str, str]
    working_directory: str


@dataclass(frozen=True, slots=True)
class DataDirectory:
    root: Path

    @property
    def disk(self) -> Disk:
        return Disk(self.root)

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def nats(self) -> Path:
        return self.root / "nats"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, name: str) -> Path:
        """The log of one of the machine's processes."""
        return self.logs / f"{name}.log"

    @property
    def sockets(self) -> Path:
        """Where the node's workers meet for calls; there while it runs."""
        return self.root / "sockets"

    @property
    def audit(self) -> Path:
        """The API servers' record of privileged actions; older parts have a number behind the name."""
        return self.logs / "audit.jsonl"

    @property
    def audit_refused(self) -> Path:
        """Their record of refusals, likewise."""
        return self.logs / "audit-refused.jsonl"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def credentials(self) -> Path:
        return self.nats / "credentials.json"

    @property
    def store(self) -> Path:
        """Where nats-server keeps the streams."""
        return self.nats / "jetstream"

    @property
    def watermarks(self) -> Path:
        return self.nats / "watermarks.json"

    @property
    def nats_configuration(self) -> Path:
        return self.nats / "nats-server.conf"

    @property
    def config(self) -> Path:
        return self.root / "machine.json"

    def prepare(self) -> None:
        """Makes the directory and its parts.

        Raises:
            Permanent: it cannot be made or written; says why, and what to do.
        """
        try:
            for folder in (self.root, self.pki, self.nats, self.logs):
                private_directory(folder)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> Permanent:
        return Permanent(
            f"the data directory {self.root} cannot be written: {error.strerror}. "
            "Choose another with --data-dir, or give its owner the right to write."
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory for this process.

        Raises:
            Permanent: another `choregos up` uses it, and its process is named; or it cannot be written.
        """
        path = self.root / "lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = path.read_text().strip() or "unknown"
                raise Permanent(
                    f"the data directory {self.root} is in use by another `choregos up` (process {holder}). "
                    "Stop that one, or choose another directory with --data-dir."
                ) from error
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def save_config(self, config: MachineConfig) -> None:
        """Records `config`, atomically."""
        write_atomic(self.config, msgspec.json.format(msgspec.json.encode(config)) + b"\n")

    def load_config(self) -> MachineConfig | None:
        """What the last `choregos up` recorded; None if there was none.

        Raises:
            Permanent: the file cannot be understood.
        """
        try:
            return msgspec.json.decode(self.config.read_bytes(), type=MachineConfig)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (msgspec.MsgspecError, OSError) as error:
            raise Permanent(
                f"{self.config} cannot be understood ({error}). Remove it; the next `choregos up` writes it anew."
            ) from error
