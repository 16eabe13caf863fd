"""The audit record as a file: one JSON object a line, rotated by size, for its owner only.

Invariants: each line is written whole before the caller goes on, so that it survives the end of this process, but
perhaps not a power failure: it is not synced. Any number of processes may write to one path. The files are bounded: the
oldest goes.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from choregos.foundation.errors import Temporary
from choregos.foundation.files import PRIVATE_FILE

FILE_BYTES_MAX = 16 * 1024 * 1024
FILES_MAX = 8


class AuditFile:
    """`path`, and `path.1` … for what is older. Opens the file when it first writes."""

    def __init__(self, path: Path, *, file_bytes_max: int = FILE_BYTES_MAX, files_max: int = FILES_MAX) -> None:
        self._path = path
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._descriptor: int | None = None

    def write(self, event: Mapping[str, Any]) -> None:
        line = msgspec.json.encode(event) + b"\n"
        try:
            while not self._append(line):
                self.close()
        except OSError as error:
            self.close()
            raise Temporary(f"the audit record {self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # gives its lock back too
            self._descriptor = None

    def _append(self, line: bytes) -> bool:
        """Writes the line, if the file at `path` is the one that is open and has room."""
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, PRIVATE_FILE)
        file = self._descriptor
        fcntl.flock(file, fcntl.LOCK_EX)
        before = os.fstat(file)
        if not self._is_current(before):
            return False
        if before.st_size and before.st_size + len(line) > self._file_bytes_max:
            self._rotate()
            return False
        if os.write(file, line) < len(line):
            # The disk is full: half a line would spoil the next one too.
            os.ftruncate(file, before.st_size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fcntl.flock(file, fcntl.LOCK_UN)
        return True

    def _is_current(self, opened: os.stat_result) -> bool:
        """Whether nobody has rotated, or removed, the file since it was opened."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)

    def _rotate(self) -> None:
        """Moves each file one number on; what has the last number goes."""
        for number in range(self._files_max - 1, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
