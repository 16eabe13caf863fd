"""Where the processes of one node find one another: a directory with one UNIX socket for each call subject.

The node makes and empties the directory, its workers put their sockets there. Who may enter it is decided by its mode
(0700). Invariant: a name tells its subject, of any length, and a path is short, however deep the directory lies: the
kernel takes some 100 bytes for the address of a socket, and `/proc/self/fd/<directory>/<name>` is always shorter.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from choregos.foundation.files import private_directory

SUPPORTED = sys.platform == "linux"
"""Elsewhere there is no such path and no `SO_PEERCRED`; calls go over the bus."""


def prepare(directory: Path) -> None:
    """Makes the directory, for its owner only, without what processes that were killed have left in it.

    Raises:
        OSError: it cannot be made or emptied.
    """
    private_directory(directory)
    for left in directory.iterdir():
        left.unlink()


def forget(directory: Path, subject: str) -> None:
    """Removes the socket of a process that is gone, if that has not done so."""
    with suppress(OSError):
        (directory / socket_name(subject)).unlink()


def discard(directory: Path) -> None:
    """Removes the directory; what cannot be removed the next `prepare` finds."""
    with suppress(OSError):
        prepare(directory)
        directory.rmdir()


@lru_cache(maxsize=4096)
def socket_name(subject: str) -> str:
    """The file in the directory for this subject."""
    return blake2b(subject.encode(), digest_size=16).hexdigest()


class Neighbourhood:
    """The directory, open.

    Raises:
        OSError: it is not there, or may not be entered.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def bind(self, subject: str) -> socket.socket:
        """A socket to take connections for `subject` with, in the place of one that was left there.

        Raises:
            OSError: there can be none; the file system may have no sockets.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self.remove(subject)
            listening.bind(self.address(subject))
        except OSError:
            listening.close()
            raise
        return listening

    def has(self, subject: str) -> bool:
        """Whether there is a socket; who listened on it may be gone."""
        return os.access(socket_name(subject), os.F_OK, dir_fd=self._descriptor)

    def address(self, subject: str) -> str:
        return f"/proc/self/fd/{self._descriptor}/{socket_name(subject)}"

    def remove(self, subject: str) -> None:
        with suppress(OSError):
            os.unlink(socket_name(subject), dir_fd=self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def is_ours(connected: socket.socket) -> bool:
    """Whether the process at the other end ran as our user when it connected or listened (unix(7), SO_PEERCRED)."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder) == os.getuid()
