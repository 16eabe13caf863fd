"""Checks of the data directory: can it be written and read, is its store sound, is it private, are its certificates
good, are its ports free."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from choregos.cli.doctor.finding import Finding, fail, ok, warn
from choregos.foundation.clock import Clock

_LOG_HEAD = re.compile(r"^\[\d+\] \S+ \S+ \[\w+\]")
T = TypeVar("T")

FREE_BYTES_FAIL = 64 * 1024 * 1024
FREE_BYTES_WARN = 1024 * 1024 * 1024
API_PORT_DEFAULT = 7443
LOG_BYTES_READ = 1024 * 1024
WORDS_OF_DAMAGE = ("corrupt", "invalid checksum", "critical write error")


class Configuration(msgspec.Struct, frozen=True):
    """What of `machine.json` matters here."""

    api_host: str = "127.0.0.1"
    api_port: int = API_PORT_DEFAULT
    bus_servers: tuple[str, ...] = ()
    node: str = ""


class StoreNotes(msgspec.Struct, frozen=True):
    """What of `nats/watermarks.json` matters here."""

    damage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataState:
    """What the data directory says of itself.

    Attributes:
        running: whether a `choregos up` holds it now.
        config: what that recorded in `machine.json`; the defaults if there is none, or it cannot be understood.
        unread: why it cannot be understood; empty if it can.
    """

    root: Path
    exists: bool
    running: bool
    config: Configuration
    unread: str = ""

    @property
    def api(self) -> tuple[str, int]:
        """Host and port of the API server."""
        return self.config.api_host, self.config.api_port

    @property
    def bus_servers(self) -> tuple[str, ...]:
        return self.config.bus_servers

    @property
    def node(self) -> str:
        """Name of this machine's AgentNode; empty if it has never run."""
        return self.config.node


def read_state(root: Path) -> DataState:
    config, unread = _read(root / "machine.json", Configuration)
    return DataState(root, root.is_dir(), _is_held(root / "lock"), config or Configuration(), unread)


def _read(path: Path, kind: type[T]) -> tuple[T | None, str]:
    """(what the file holds, why that cannot be said); nothing of both if there is no file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind), ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (OSError, msgspec.MsgspecError) as error:
        return None, str(error)


def check_directory(state: DataState, clock: Clock) -> Iterator[Finding]:
    if not state.exists:
        yield ok("data directory", f"{state.root} does not exist yet; `choregos up` makes it")
        yield _disk(_existing_parent(state.root))
        yield _port(state)
        return
    yield _writable(state.root)
    yield _configuration(state)
    yield _disk(state.root)
    yield _store(state.root)
    yield _private(state.root)
    yield from _certificates(state.root / "pki", clock)
    yield _port(state)


def _writable(root: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        return fail(
            "data directory",
            f"{root} cannot be written: {error.strerror}",
            "Give its owner the right to write, or choose another with --data-dir.",
        )
    return ok("data directory", str(root))


def _configuration(state: DataState) -> Finding:
    path = state.root / "machine.json"
    if state.unread:
        return fail(
            "configuration",
            f"{path} cannot be understood: {state.unread}",
            "Remove it; the next `choregos up` writes it anew.",
        )
    return ok("configuration", str(path) if path.exists() else "none yet; `choregos up` writes it")


def _store(root: Path) -> Finding:
    """What `choregos up` has found out about it, and what nats-server has said since it was last started."""
    path = root / "nats" / "watermarks.json"
    notes, unread = _read(path, StoreNotes)
    if unread:
        return fail("store", f"{path} cannot be understood: {unread}", "Remove it; it is written anew.")
    if notes is not None and notes.damage:
        remedy = f"Look after the disk, and restore {path.parent} from a backup. Or remove {path} to go on without."
        return fail("store", "; ".join(notes.damage), remedy)
    said = _said_of_damage(root / "logs" / "nats-server.log")
    if said:
        remedy = "Stop `choregos up` and start it again: it has every record read, and says what is lost."
        return fail("store", f"nats-server says: {said}", remedy)
    return ok("store", "no damage is known" if notes is not None else "none yet")


def _said_of_damage(log: Path) -> str:
    """The last line of the log about damage, of the present run of nats-server."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES_READ))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = ""
    for line in lines:
        if "Starting nats-server" in line:
            said = ""
        elif any(word in line for word in WORDS_OF_DAMAGE):
            said = _LOG_HEAD.sub("", line).strip()
    return said


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    text = f"{free / 2**30:.1f} GiB free for {root}"
    if free < FREE_BYTES_FAIL:
        return fail("disk space", text, "Free some: without space nothing that happens can be recorded.")
    if free < FREE_BYTES_WARN:
        return warn("disk space", text, "Free some soon, or choose another place with --data-dir.")
    return ok("disk space", text)


def _private(root: Path) -> Finding:
    """Keys, passwords and the kubeconfig are for their owner only."""
    secrets = [*root.glob("pki/*.pem"), *root.glob("nats/*.json"), *root.glob("nats/*.conf"), root / "kubeconfig"]
    exposed = [path for path in secrets if path.exists() and path.stat().st_mode & 0o077]
    if exposed:
        names = " ".join(str(path) for path in exposed)
        return fail("private files", f"others on this machine can read {names}", f"Run `chmod 600 {names}`.")
    return ok("private files", "keys and passwords are readable by their owner only")


def _certificates(directory: Path, clock: Clock) -> Iterator[Finding]:
    from choregos.security.pki import LEAF_LIFE, load_identity

    files = sorted(directory.glob("*.pem"))
    if not files:
        yield ok("certificates", "none yet; `choregos up` makes them")
    for path in files:
        check = f"certificate {path.stem}"
        try:
            identity = load_identity(path)
        except (OSError, ValueError) as error:
            remedy = "Restart `choregos up`: it is issued again."
            if path.stem == "ca":
                remedy = f"Restore it from a backup; or remove {directory}, which ends all kubeconfigs handed out."
            yield fail(check, f"{path} cannot be read: {error}", remedy)
            continue
        left = identity.life_left(clock.wall_ms())
        until = f"good until {identity.certificate.not_valid_after_utc:%Y-%m-%d}"
        if left.total_seconds() < 0:
            yield fail(
                check, f"expired: {until}", "Restart `choregos up`; if it is `ca`, remove the pki directory first."
            )
        elif left < LEAF_LIFE / 10:
            yield warn(check, until, "Restart `choregos up`: it is issued again.")
        else:
            yield ok(check, until)


def _port(state: DataState) -> Finding:
    host, port = state.api
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if state.running:
                return ok("API port", f"{host}:{port} is held by the running `choregos up`")
            return fail(
                "API port",
                f"{host}:{port} cannot be used: {error.strerror}",
                "Stop what uses it, or choose another: `choregos up --api-port 0` takes any free one.",
            )
    if state.running:
        return fail(
            "API port",
            f"`choregos up` is running, but nothing listens on {host}:{port}",
            f"Look into {state.root / 'logs'}.",
        )
    return ok("API port", f"{host}:{port} is free")


def _is_held(lock: Path) -> bool:
    """Whether somebody holds the data directory's lock; does not keep it."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.is_dir())
