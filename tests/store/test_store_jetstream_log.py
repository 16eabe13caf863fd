"""The JetStream backend keeps the contract of the port, on a real nats-server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from choregos.foundation.bus.connection import Bus
from choregos.store.backends.jetstream import JetStreamLog
from choregos.testing.record_log_contract import RecordLogContract

pytestmark = pytest.mark.real


class TestJetStreamLog(RecordLogContract):
    @pytest.fixture
    def log(self, jetstream_log: JetStreamLog, bus: Bus) -> Iterator[JetStreamLog]:
        """Nothing that the contract lets a writer do costs the connection."""
        lost: list[bool] = []
        forget_listener = bus.on_change(lost.append)
        yield jetstream_log
        forget_listener()
        assert not lost
