"""What a store that had got so far must still have, and what may be missing of one that was broken off."""

from __future__ import annotations

import pytest

from choregos.assembly.machine.watermarks import Notes, compare
from choregos.store.backends.jetstream import StreamState

LOST = StreamState(revision=50, lost_bytes=300)


@pytest.mark.parametrize(
    ("notes", "state", "damage", "doubtful"),
    [
        (Notes(), StreamState(), 0, 0),
        (Notes({"S": 43}), StreamState(43), 0, 0),
        (Notes({"S": 43}), StreamState(50), 0, 0),
        (Notes({"S": 43}, ended=True), StreamState(43), 0, 0),
        (Notes({"S": 43}), StreamState(42), 1, 0),
        (Notes({"S": 43}), StreamState(), 1, 0),
        (Notes({"S": 43}), LOST, 0, 1),
        (Notes({"S": 50}, ended=True), LOST, 1, 0),
        (Notes({"T": 43}), StreamState(), 0, 0),
    ],
)
def test_loss_is_told_from_a_last_write_that_was_broken_off(
    notes: Notes, state: StreamState, damage: int, doubtful: int
) -> None:
    found = compare(notes, {"S": state})
    assert (len(found[0]), len(found[1])) == (damage, doubtful)


def test_the_message_says_how_far_it_was() -> None:
    damage, _ = compare(Notes({"S": 43}), {"S": StreamState(7)})
    assert damage == ["stream S ends at revision 7, it had reached 43"]
