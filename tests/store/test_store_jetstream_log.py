"""The JetStream backend keeps the contract of the port, on a real nats-server."""

from __future__ import annotations

import pytest

from choregos.store.backends.jetstream import JetStreamLog
from choregos.testing.record_log_contract import RecordLogContract

pytestmark = pytest.mark.real


class TestJetStreamLog(RecordLogContract):
    @pytest.fixture
    def log(self, jetstream_log: JetStreamLog) -> JetStreamLog:
        return jetstream_log
