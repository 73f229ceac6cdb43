"""Messages over a serial line, the gateway's half of what `device_client.nano` speaks.

Its two units `sending` and `receiving` say how frames look. Only messages to the device are acknowledged and
repeated; what the device says and nobody hears, it says again.
"""

import time
from binascii import crc_hqx
from collections import deque
from typing import NamedTuple, Protocol

from firmware_sim.serial_line import LineError

FRAME_BYTES = 32
MESSAGE_BYTES = 320
"""Longest message, with its topic number: the device's one buffer."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 2.0
"""Seconds for an acknowledgement: longer than the tenth of one that ends a frame for the device."""
TRIES = 10
QUIET = 0.2
"""Seconds without a byte after which what has come of a frame is given up."""
WAITING = 16
"""Messages from the device that wait; the oldest is dropped for one more."""

ACKNOWLEDGED = 0


class NotAcknowledged(LineError):
    """The device has let a frame pass in every repetition."""


class Line(Protocol):
    """What `SerialLine` is."""

    def read(self, seconds: float) -> bytes: ...

    def write(self, data: bytes) -> None: ...


class Message(NamedTuple):
    """What the device says: a topic number, what it has taken so far, and the payload."""

    topic: int
    blocks: int
    crc16: int
    payload: bytes


def frames(message: bytes) -> list[tuple[bytes, bytes]]:
    """(head, whole frame) of each frame of a message of 1 to MESSAGE_BYTES bytes."""
    if not 1 <= len(message) <= MESSAGE_BYTES:
        raise ValueError(f"message of {len(message)} bytes is not within 1 to {MESSAGE_BYTES}")
    out = []
    for offset in range(0, len(message), FRAME_BYTES):
        payload = message[offset : offset + FRAME_BYTES]
        is_last = offset + FRAME_BYTES >= len(message)
        head = offset << 6 | is_last << 5 | len(payload) - 1
        raw = head.to_bytes(2, "big")
        out.append((raw, raw + payload + crc_hqx(payload, head).to_bytes(2, "big")))
    return out


class FrameReader:
    """Finds the device's messages in what comes over the line. Without I/O."""

    def __init__(self) -> None:
        self.damaged = 0
        self.noise = b""
        """The last bytes that were no frame: what an interpreter has printed instead, say."""
        self._bytes = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole with these bytes."""
        self._bytes += data
        out = []
        while self._bytes and len(self._bytes) >= (size := self._bytes[0] + 3):
            length, body = self._bytes[0], self._bytes[1 : size - 2]
            if length < 6 or crc_hqx(body, length).to_bytes(2, "big") != self._bytes[size - 2 : size]:
                self.give_up()
                break
            out.append(
                Message(body[0], int.from_bytes(body[1:4], "big"), int.from_bytes(body[4:6], "big"), body[6:])
            )
            self._bytes = self._bytes[size:]
        return out

    @property
    def begun(self) -> bool:
        """Whether the beginning of a frame is here."""
        return bool(self._bytes)

    def give_up(self) -> None:
        """The line is quiet, or what is here is no frame: it never will be."""
        if self._bytes:
            self.damaged += 1
            self.noise = (self.noise + self._bytes)[-400:]
            self._bytes = b""


class SerialLink:
    """Sends messages until they are acknowledged, and receives the device's."""

    def __init__(self, line: Line) -> None:
        self.repeated = 0
        self.reader = FrameReader()
        self._line = line
        self._came: deque[Message] = deque(maxlen=WAITING)

    def receive(self, seconds: float) -> Message | None:
        """The next message of the device; None where none is whole after so long."""
        deadline = time.monotonic() + seconds
        while not self._came and (left := deadline - time.monotonic()) > 0:
            self._pump(left)
        return self._came.popleft() if self._came else None

    def send(self, message: bytes) -> None:
        """Brings a message of 1 to MESSAGE_BYTES bytes over. NotAcknowledged, LineClosed."""
        for head, frame in frames(message):
            wait = FIRST_WAIT
            for attempt in range(TRIES):
                self.repeated += attempt > 0
                self._line.write(frame)
                if self._acknowledged(head, wait):
                    break
                wait = min(LONGEST_WAIT, 1.5 * wait)
            else:
                said = f"; it last said {self.reader.noise!r}" if self.reader.noise else ""
                raise NotAcknowledged(f"the device let a frame pass {TRIES} times{said}")

    def _acknowledged(self, head: bytes, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if head in self._pump(left):
                return True
        return False

    def _pump(self, seconds: float) -> list[bytes]:
        # Reads once; the heads acknowledged. Silence ends a frame of which only the beginning is here.
        begun = self.reader.begun
        data = self._line.read(max(seconds, QUIET) if begun else seconds)
        if begun and not data:
            self.reader.give_up()
        messages = self.reader.feed(data)
        self._came.extend(message for message in messages if message.topic != ACKNOWLEDGED)
        return [message.payload for message in messages if message.topic == ACKNOWLEDGED]
