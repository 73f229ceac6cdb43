"""What happened to the image of a slot: a log in flash that only grows, record by record.

MCUboot keeps single flags at the end of a slot. Here each change is a record of its own, with a checksum,
that names the image it is about: one that was torn is no record, and one about another image than the slot
holds says nothing. Nothing is programmed twice. The log is erased for each request, and at no other time;
before that its first place is programmed, since an erase that is cut short may leave records whole and bits
around them that are neither 0 nor 1.
"""

import struct
from binascii import crc32
from dataclasses import dataclass
from enum import Enum

from firmware_sim.flash import Partition

_RECORD = struct.Struct(">4sI20sI")
RECORD_BYTES = _RECORD.size
_BLANK = b"\xff" * RECORD_BYTES


class Event(Enum):
    """What a record says."""

    REQUESTED = b"REQ!"
    """A test boot is asked for."""
    TRIED = b"TRY!"
    """A test boot begins."""
    CONFIRMED = b"CONF"
    """The image said that it works."""
    REFUSED = b"REFU"
    """It is not to be booted until it is requested again."""


class State(Enum):
    """What the log says of an image."""

    UNKNOWN = "unknown"
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class LogFull(Exception):
    """No record can be added until the next request erases the log."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a log says of one image; `tries`: test boots begun since it was requested."""

    state: State
    tries: int
    confirmations: int


class SlotLog:
    """The log in `partition`, whole sectors; ValueError where records are no whole writes of it."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self.start, self.size = partition.start, partition.size  # bytes, as the partition has them
        if RECORD_BYTES % partition.write_size:
            raise ValueError(f"records of {RECORD_BYTES} bytes are no whole writes of {partition.write_size}")

    def status(self, digest: bytes) -> Status:
        """Of the image with this SHA-256."""
        state, tries, confirmations = State.UNKNOWN, 0, 0
        for event, _, about in self._records():
            if about != digest[:20]:
                continue
            if event is Event.TRIED:
                tries += 1
            else:
                state = State[event.name]
                confirmations += event is Event.CONFIRMED
        return Status(state, tries, confirmations)

    def security(self) -> int:
        """The highest security counter of an image that was confirmed since the log was erased."""
        return max((counter for event, counter, _ in self._records() if event is Event.CONFIRMED), default=0)

    def request(self, digest: bytes, security: int) -> None:
        """Forgets everything, and asks for a test boot of this image."""
        first = self._partition.read(0, RECORD_BYTES)
        if self._partition.write_size == 1 or first == _BLANK:
            self._partition.program(0, bytes(RECORD_BYTES))
        for sector in range(0, self._partition.size, self._partition.sector_size):
            self._partition.erase(sector)
        self.append(Event.REQUESTED, digest, security)

    def append(self, event: Event, digest: bytes, security: int) -> None:
        """Adds a record about the image with this SHA-256 and security counter. Raises LogFull."""
        used = len(self._partition.read(0, self._partition.size).rstrip(b"\xff"))
        place = max(1, -(-used // RECORD_BYTES)) * RECORD_BYTES  # past a torn record too
        if place + RECORD_BYTES > self._partition.size:
            raise LogFull(f"all {self._partition.size // RECORD_BYTES - 1} records of the log are used")
        body = _RECORD.pack(event.value, security, digest[:20], 0)[:-4]
        self._partition.program(place, body + struct.pack(">I", crc32(body)))

    def _records(self) -> list[tuple[Event, int, bytes]]:
        data = self._partition.read(0, self._partition.size)
        found = []
        if data.startswith(_BLANK):
            data = data.rstrip(b"\xff").ljust(RECORD_BYTES, b"\xff")
            data += _BLANK[: -len(data) % RECORD_BYTES]  # the last one's checksum may end in ones
            for place in range(RECORD_BYTES, len(data), RECORD_BYTES):
                kind, security, digest, checksum = _RECORD.unpack_from(data, place)
                if checksum == crc32(data[place : place + RECORD_BYTES - 4]):
                    found.append((Event(kind), security, digest))
        return found
