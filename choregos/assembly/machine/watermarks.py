"""How far the streams of a data directory had got: so a store that lost records is noticed before anybody acts on it.

A region that finds agents without their set drains them, so records that are lost must not pass for records that were
never written. nats-server says little of damage: it skips what it cannot read, and starts. So the last revision of each
stream is noted beside the store while the machine runs and when it ends, and compared when it starts; and nats-server
is made to read every record then, because its index spares it the look at files that are damaged.

Invariant: what is noted was on the disk of nats-server before it was noted, so a note is never ahead of a sound store,
however the machine ended. Once damage is found it stays noted until a person has removed the file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from choregos.assembly.machine.layout import DataDirectory, MachineConfig
from choregos.assembly.services.running import bus_address
from choregos.foundation.bus.connection import connect
from choregos.foundation.clock import Clock
from choregos.foundation.errors import ChoregosError, Permanent
from choregos.foundation.files import write_atomic
from choregos.foundation.timeout import timeout
from choregos.security.credentials import BusUser
from choregos.store.backends.jetstream import JetStreamLog, StreamState
from choregos.wire.subjects import RESOURCES_STREAM, agents_stream

log = logging.getLogger(__name__)

PERIOD_S = 10.0
END_TIMEOUT_S = 2.0
"""A nats-server that hangs does not hold up the end."""


class Notes(msgspec.Struct, frozen=True):
    """What is written down.

    Attributes:
        reached: last revision by stream.
        ended: written when everybody had ended; there is nothing after it.
        damage: what was found to be lost, a sentence each.
    """

    reached: dict[str, int] = {}
    ended: bool = False
    damage: tuple[str, ...] = ()


class Watermarks:
    """Of one data directory, which is this process's own."""

    def __init__(self, directory: DataDirectory, config: MachineConfig) -> None:
        self._directory = directory
        self._config = config
        self._streams = (RESOURCES_STREAM, agents_stream(config.region))
        self._notes = Notes()

    def load(self) -> None:
        """Reads what was noted.

        Raises:
            Permanent: damage has been found before, or the notes cannot be understood.
        """
        path = self._directory.watermarks
        try:
            self._notes = msgspec.json.decode(path.read_bytes(), type=Notes)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (msgspec.MsgspecError, OSError) as error:
            raise Permanent(f"{path} cannot be understood ({error}). Remove it; it is written anew.") from error
        if self._notes.damage:
            raise self._refusal()

    def have_all_records_read(self) -> None:
        """Removes nats-server's index, so that it reads the records themselves when it starts: a second per 500,000."""
        for index in self._directory.store.glob("**/msgs/index.db"):
            index.unlink(missing_ok=True)

    async def check(self) -> None:
        """Compares the streams of the nats-server that was just started with what was noted.

        Raises:
            Permanent: records are lost.
        """
        found = await self._states()
        damage, doubtful = compare(self._notes, found)
        for sentence in doubtful:
            log.warning("%s", sentence)
        if damage:
            self._write(Notes(self._notes.reached, False, tuple(damage)))
            raise self._refusal()
        self._write(Notes({**self._notes.reached, **_reached(found)}))

    async def watch(self, clock: Clock) -> None:
        """For ever: notes how far the streams are, and looks whether they are."""
        seen: Mapping[str, StreamState] = {}
        while True:
            await clock.sleep(PERIOD_S)
            try:
                found = await self._states()
                damage, _ = compare(self._notes, found)
                fresh = [sentence for sentence in damage if sentence not in self._notes.damage]
                for sentence in fresh:
                    log.error("%s", sentence)
                # One look late, so that what is noted has long been on the disk.
                reached = {name: max(at, self._notes.reached.get(name, 0)) for name, at in _reached(seen).items()}
                self._write(Notes({**self._notes.reached, **reached}, False, (*self._notes.damage, *fresh)))
                seen = found
            except (ChoregosError, OSError) as error:
                log.debug("the streams cannot be looked at now: %s", error)

    async def at_end(self) -> None:
        """Notes how far the streams have got, when nobody writes any more."""
        try:
            async with timeout(END_TIMEOUT_S):
                found = await self._states()
            if not self._notes.damage:
                self._write(Notes({**self._notes.reached, **_reached(found)}, ended=True))
        except (ChoregosError, OSError) as error:
            log.debug("how far the streams have got cannot be noted: %s", error)

    async def _states(self) -> dict[str, StreamState]:
        address = bus_address(self._directory, self._config, BusUser.CONTROL)
        found: dict[str, StreamState] = {}
        async with connect(address, "up", timeout_s=PERIOD_S) as bus:
            for stream in self._streams:
                async with JetStreamLog(bus, stream) as records:
                    found[stream] = await records.state()
        return found

    def _write(self, notes: Notes) -> None:
        if notes != self._notes:
            write_atomic(self._directory.watermarks, msgspec.json.format(msgspec.json.encode(notes)) + b"\n")
            self._notes = notes

    def _refusal(self) -> Permanent:
        sentences = "\n".join(f"  {sentence}" for sentence in self._notes.damage)
        return Permanent(
            f"the store in {self._directory.nats} is damaged:\n{sentences}\n"
            f"Look after the disk, and restore {self._directory.nats} from a backup. Or remove "
            f"{self._directory.watermarks} to go on with what is left: what was declared in the lost records is gone, "
            "and agents whose set is lost are stopped."
        )


def compare(notes: Notes, found: Mapping[str, StreamState]) -> tuple[list[str], list[str]]:
    """(what is lost for certain, what may be lost) of streams that had got as far as noted. Pure."""
    damage: list[str] = []
    doubtful: list[str] = []
    for name, state in found.items():
        noted = notes.reached.get(name, 0)
        if state.revision < noted:
            damage.append(f"stream {name} ends at revision {state.revision}, it had reached {noted}")
        elif state.lost_bytes and notes.ended:
            damage.append(f"nats-server could not read {state.lost_bytes} bytes of stream {name}")
        elif state.lost_bytes:
            # The last write of a machine that was broken off is half there, and nobody was told that it had been made.
            doubtful.append(
                f"nats-server could not read {state.lost_bytes} bytes of stream {name}: the last write before the "
                "machine was broken off, or damage"
            )
    return damage, doubtful


def _reached(found: Mapping[str, StreamState]) -> dict[str, int]:
    return {name: state.revision for name, state in found.items()}
