"""The memory backend keeps the contract of the port."""

from __future__ import annotations

import pytest

from choregos.foundation.clock import SystemClock
from choregos.store.backends.memory import MemoryLog
from choregos.testing.record_log_contract import RecordLogContract


class TestMemoryLog(RecordLogContract):
    @pytest.fixture
    def log(self) -> MemoryLog:
        return MemoryLog(SystemClock())
