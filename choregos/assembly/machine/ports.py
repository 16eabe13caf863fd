"""TCP ports on this machine: is one free, which one is."""

from __future__ import annotations

import socket

from choregos.foundation.errors import Permanent


def free_port(host: str) -> int:
    """A port nobody listens on now; the kernel gives it to others too, so use it soon."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def claim(host: str, port: int, *, what: str, option: str) -> int:
    """`port` if it can be listened on, a free one if it is 0.

    Raises:
        Permanent: another program listens there; names the option to change.
    """
    if port == 0:
        return free_port(host)
    if not is_free(host, port):
        raise Permanent(
            f"{what} cannot listen on {host}:{port}: the port is taken. Choose another with {option} PORT, "
            f"or {option} 0 for any free one."
        )
    return port
