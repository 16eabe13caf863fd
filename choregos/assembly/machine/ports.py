"""TCP ports on this machine: is one free, which one is."""

from __future__ import annotations

import errno
import socket

from choregos.foundation.errors import Permanent


def free_port(host: str) -> int:
    """A port nobody listens on now; the kernel gives it to others too, so use it soon."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    return _obstacle(host, port) is None


def claim(host: str, port: int, *, what: str, option: str) -> int:
    """`port` if it can be listened on, a free one if it is 0.

    Raises:
        Permanent: that is not possible, most often because another program listens there; names the option to change.
    """
    if port == 0:
        return free_port(host)
    obstacle = _obstacle(host, port)
    if obstacle is not None:
        why = "the port is taken" if obstacle.errno == errno.EADDRINUSE else str(obstacle.strerror).lower()
        raise Permanent(
            f"{what} cannot listen on {host}:{port}: {why}. Choose another with {option} PORT, "
            f"or {option} 0 for any free one."
        )
    return port


def _obstacle(host: str, port: int) -> OSError | None:
    """Why nobody can listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
        return None
