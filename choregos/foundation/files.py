"""Files that survive a crash: written beside their name, synced, then renamed. Knows no formats.

Invariant: a reader sees the old content or the new one, never a part of either.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def private_directory(path: Path) -> Path:
    """Makes `path` and its missing parents; `path` itself is for its owner only. Returns `path`."""
    path.mkdir(parents=True, exist_ok=True)
    if path.stat().st_mode & 0o777 != PRIVATE_DIRECTORY:
        path.chmod(PRIVATE_DIRECTORY)
    return path


def write_atomic(path: Path, content: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Puts `content` at `path` with `mode`; it is on the disk when this returns.

    Raises:
        OSError: no space, no permission; then `path` is as it was and nothing is left beside it.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Makes a rename durable: the entry lives in the directory, which has a cache of its own."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
