"""The systems we are compared with, in an environment of their own that is made here: never in the product's.

It lies in `.benchmarks/peers-venv` and is kept. A peer that cannot be had (no network, no wheel) is reported and left
out; everything else is measured all the same.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.subject import CACHE

PINS = {"ray": "ray==2.60.0", "xoscar": "xoscar==0.12.2"}
SHARED_PINS = (f"psutil=={importlib.metadata.version('psutil')}", f"uvloop=={importlib.metadata.version('uvloop')}")
"""What the measurements themselves need there, as we have it."""

INSTALL_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them.

    Attributes:
        python: its interpreter; None: it cannot be had, for the reason given in `missing`.
    """

    name: str
    version: str
    python: Path | None
    missing: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}".strip()


def find_peers(directory: Path = CACHE / "peers-venv") -> dict[str, Peer]:
    """Every peer by name, installed if need be (some 100 MB the first time)."""
    python = directory / "bin" / "python"
    if not python.exists():
        shutil.rmtree(directory, ignore_errors=True)
        venv.create(directory, with_pip=True, symlinks=True)
    return {name: _peer(python, name, pin) for name, pin in PINS.items()}


def _peer(python: Path, name: str, pin: str) -> Peer:
    version = pin.rpartition("=")[2]
    if _installed(python, name) != version:
        print(f"installing {pin} into {python.parent.parent}", file=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        try:
            subprocess.run(
                [*pip, pin, *SHARED_PINS], check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
            )
        except subprocess.SubprocessError as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            return Peer(name, version, None, f"{pin} cannot be installed: {said[-1] if said else error}")
    return Peer(name, version, python)


def _installed(python: Path, name: str) -> str:
    code = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
    found = subprocess.run([python, "-c", code, name], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def no_peers(reason: str) -> dict[str, Peer]:
    """All of them, missing."""
    return {name: Peer(name, "", None, reason) for name in PINS}
