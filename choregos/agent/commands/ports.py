"""Ports that an agent's worker listens on. Blocks; to be called in a thread.

A worker is its process and all others of its process group. Only what can be reached on the node's loopback counts, so
nobody gets to another process of the machine by way of an agent.
"""

from __future__ import annotations

import contextlib
import os
from ipaddress import ip_address

import psutil


def listening(leader: int) -> dict[int, str]:
    """Port → loopback address at which the worker of this process id takes connections."""
    found: dict[int, str] = {}
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(pid) == leader:
                for each in psutil.Process(pid).net_connections("tcp"):
                    if each.status == psutil.CONN_LISTEN and (address := _loopback(each.laddr.ip)):
                        found.setdefault(each.laddr.port, address)
    return found


def _loopback(listener: str) -> str:
    """Where on the loopback a listener of this address is reached; empty if nowhere."""
    address = ip_address(listener)
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return listener if address.is_loopback else ""
