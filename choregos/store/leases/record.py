"""Leases as records: the one place that writes and reads them."""

from __future__ import annotations

import logging

import msgspec

from choregos.store.port import Record
from choregos.wire.instances import LeaseRecord

log = logging.getLogger(__name__)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(LeaseRecord).decode


def lease_of(record: Record | None) -> LeaseRecord | None:
    """The lease that the last record of a lease's subject tells of.

    None if there is no record, if the lease was released, or if it cannot be read: such a lease is nobody's, as the
    one who took it could not renew it either, and a leader that does not know yet is fenced out.
    """
    if record is None or record.tombstone:
        return None
    try:
        return decode(record.data)
    except msgspec.MsgspecError as error:
        log.error("%s at %d is no lease and is ignored: %s", record.subject, record.sequence, error)
        return None
