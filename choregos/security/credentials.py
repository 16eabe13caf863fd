"""Who may do what on the bus: the users of nats-server, their passwords and permissions, and its configuration.

Owns `credentials.json` (mode 0600). Invariant: what a user may publish and subscribe to is the data in
`PERMISSIONS`, and nothing else grants anything. Each user has an inbox prefix of its own, so none reads the answers
meant for another.

Does not tell two workers apart: all share the user `worker` (`docs/security.md` says what follows from that).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

from choregos.foundation.bus.address import MESSAGE_BYTES_MAX, inbox_prefix
from choregos.foundation.errors import Permanent
from choregos.foundation.files import PRIVATE_FILE, private_directory, write_atomic
from choregos.foundation.ids import SystemIds


class BusUser(StrEnum):
    CONTROL = "control"
    """The fleet and region controllers; owns the streams."""

    API = "api"
    """The API server: writes what clients ask for, asks nodes, calls agents. It binds no agent and leads nothing."""

    NODE = "node"
    """The agent host of one machine: writes statuses, its AgentNode, its leases and events."""

    WORKER = "worker"
    """A process that runs agents, so code that is not ours: calls, and nothing stored."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """NATS subjects, wildcards allowed; what is denied is denied even when it is allowed too."""

    publish: Sequence[str]
    subscribe: Sequence[str]
    publish_denied: Sequence[str] = ()


# Answers go to the inbox of whoever asked. Its unguessable last tokens are what protects it from strangers.
_ANSWERS = tuple(f"{inbox_prefix(user)}.>" for user in BusUser)

# What reading a stream takes: its state, single records, and consumers with their acknowledgements and flow control.
_READ_STREAMS = (
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.>",
    "$JS.ACK.>",
    "$JS.FC.>",
)

PERMISSIONS: Mapping[BusUser, Permissions] = {
    BusUser.CONTROL: Permissions(
        publish=(
            *("o.>", "oe.>", "a.>", "as.>", "ad.>", "at.>", "al.>"),
            *("$JS.API.>", "$JS.ACK.>", "$JS.FC.>"),
        ),
        subscribe=(f"{inbox_prefix(BusUser.CONTROL)}.>",),
    ),
    BusUser.API: Permissions(
        publish=("o.>", "oe.>", "ad.*.*.*", "c.>", "n.>", *_READ_STREAMS),
        subscribe=(f"{inbox_prefix(BusUser.API)}.>",),
    ),
    BusUser.NODE: Permissions(
        publish=("o.agentnodes._.*", "oe.events.*.*", "as.*.*.*", "al.*.*.*", "c.>", *_ANSWERS, *_READ_STREAMS),
        # A node renews its own lease and must never be a leader.
        publish_denied=("al.fleet.>", "al.*.region.>"),
        subscribe=(f"{inbox_prefix(BusUser.NODE)}.>", "c.>", "n.>"),
    ),
    BusUser.WORKER: Permissions(
        publish=("c.>", *_ANSWERS),
        subscribe=(f"{inbox_prefix(BusUser.WORKER)}.>", "c.>"),
    ),
}


class BusCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """The password of each user."""

    control: str
    api: str
    node: str
    worker: str

    def __repr__(self) -> str:
        return "BusCredentials(…)"

    def password(self, user: BusUser) -> str:
        password: str = getattr(self, user.value)
        return password


def load_or_create(path: Path, ids: SystemIds) -> BusCredentials:
    """The credentials in `path`; makes them when there are none yet.

    Raises:
        Permanent: the file is damaged; the message says what to do.
    """
    if not path.exists():
        private_directory(path.parent)
        credentials = BusCredentials(**{user.value: ids.password() for user in BusUser})
        write_atomic(path, msgspec.json.format(msgspec.json.encode(credentials)) + b"\n")
        return credentials
    try:
        credentials = msgspec.json.decode(path.read_bytes(), type=BusCredentials)
    except (OSError, msgspec.MsgspecError) as error:
        raise Permanent(
            f"the bus credentials {path} cannot be read: {error}. Remove the file and start everything that uses "
            f"this data directory again: new passwords are made, nothing stored is lost."
        ) from error
    if path.stat().st_mode & 0o077:
        path.chmod(PRIVATE_FILE)
    return credentials


@dataclass(frozen=True, slots=True)
class BusServer:
    """How nats-server shall run.

    Attributes:
        store_directory: where JetStream keeps its streams.
        pid_file: nats-server writes its process id there.
        port: TCP port on `host`; -1 takes a free one, written to `ports_directory`.
        ports_directory: nats-server writes the addresses it listens on there, as `nats-server_<pid>.ports`.
        log_file: where it logs, in two files of at most 16 MB; None: to its output.
        max_payload_bytes: largest message, header and payload together.
        sync_interval: `always` syncs each record to the disk before it is acknowledged; a duration such as `2m` lets
            a power failure (not a crash of the process) lose that much.
        server_name: shown in logs and monitoring.
    """

    store_directory: Path
    pid_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 4222
    ports_directory: Path | None = None
    log_file: Path | None = None
    max_payload_bytes: int = MESSAGE_BYTES_MAX
    sync_interval: str = "always"
    server_name: str = "choregos"
    credentials: BusCredentials | None = field(default=None, repr=False)


def render_configuration(server: BusServer) -> str:
    """nats-server's configuration file; it holds the passwords, so write it with mode 0600.

    No monitoring port: it would answer anybody. Without `credentials` everybody may do everything: for tests only.
    """
    lines = [
        f"server_name: {_quote(server.server_name)}",
        f"listen: {_quote(f'{server.host}:{server.port}')}",
        f"max_payload: {server.max_payload_bytes}",
        # A host serves thousands of agents over one connection; a burst of their traffic is no slow consumer.
        "max_pending: 268435456",
    ]
    if server.pid_file is not None:
        lines.append(f"pid_file: {_quote(str(server.pid_file))}")
    if server.ports_directory is not None:
        lines.append(f"ports_file_dir: {_quote(str(server.ports_directory))}")
    if server.log_file is not None:
        lines += [f"log_file: {_quote(str(server.log_file))}", "logfile_size_limit: 16MB", "logfile_max_num: 2"]
    lines += [
        "jetstream {",
        f"  store_dir: {_quote(str(server.store_directory))}",
        f"  sync_interval: {_quote(server.sync_interval)}",
        "}",
    ]
    if server.credentials is not None:
        lines += ["authorization {", "  users = ["]
        lines += [_user(user, server.credentials.password(user)) for user in BusUser]
        lines += ["  ]", "}"]
    return "\n".join(lines) + "\n"


def write_configuration(path: Path, server: BusServer) -> None:
    """Writes `render_configuration` to `path`, for its owner only."""
    private_directory(path.parent)
    write_atomic(path, render_configuration(server).encode())


def _user(user: BusUser, password: str) -> str:
    permissions = PERMISSIONS[user]
    publish = f"allow: {_list(permissions.publish)}"
    if permissions.publish_denied:
        publish += f", deny: {_list(permissions.publish_denied)}"
    return (
        f"    {{user: {_quote(user)}, password: {_quote(password)}, permissions: "
        f"{{publish: {{{publish}}}, subscribe: {{allow: {_list(permissions.subscribe)}}}}}}}"
    )


def _list(subjects: Sequence[str]) -> str:
    return "[" + ", ".join(_quote(subject) for subject in subjects) + "]"


def _quote(text: str) -> str:
    """A string of nats-server's configuration language; JSON's escapes are understood."""
    return msgspec.json.encode(text).decode()
