"""A serial-to-MQTT gateway for devices that have a serial line and nothing else.

It publishes what the device says to the stream's topics and brings back what the service answers; topics are
numbers on the line, as MQTT-SN has them. It decides nothing: what to ask, whether to ask again and whether an
answer is right is the device's to say. It only watches: every message of the device says how many blocks it
has taken and the CRC-16 over them, so that the gateway hashes the very bytes that the device has taken.
"""

import hashlib
import secrets
import time
from binascii import crc_hqx
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from chunker.messages import decode_answer
from chunker.topics import CBOR, topic
from device_client.address import BrokerAddress
from device_client.errors import DownloadError, DownloadTimeout
from device_client.mqtt import Session
from device_client.socket_transport import SocketTransport
from firmware_sim.serial_link import MESSAGE_BYTES, Line, Message, NotAcknowledged, SerialLink

VERBS = {"describe": 1, "description": 2, "get": 3, "data": 4, "rejected": 5}
REPORT, ECHO = 6, 7
KEEPALIVE = 30
"""Seconds after which a broker that does not answer counts as gone: more than one message takes the line."""
BUFFER_BYTES = 4096
"""Read from the broker at a time. What does not fit is left out; no message for the device is so long."""
WAITING = 16
"""Messages for the device that wait; a further one is dropped and counted: the device asks again."""
REMEMBERED = 8
"""Blocks brought to the device of which it may yet say that it took one."""
TURN = 20
"""Milliseconds for which broker and line are listened to in turn."""


class DeviceSilent(DownloadTimeout):
    """The device has taken nothing new for as long as the caller was ready to wait."""


class DeviceWrong(DownloadError):
    """The device says that it took what was not brought to it."""


class Report(NamedTuple):
    """What the device said at the end, and what the gateway knows of it."""

    reason: str
    """Empty where the device has the whole file; else the service's code, or the device's own exception."""
    message: str
    """What the service's rejection said."""
    blocks: int
    size: int
    """Bytes taken."""
    device_crc16: int
    crc16: int
    """Over the bytes brought to the device, as the gateway knows them."""
    sha256: str


class Gateway:
    """The gateway of one thing and one stream, connected for the time of a `with`.

    `broker`: `mqtt[s]://[user:pass@]host[:port]`; ValueError for what is none. BrokerUnreachable and
    SubscriptionRefused at the start; a session lost later is made anew, and the device asks again.
    """

    def __init__(
        self, line: Line, broker: str, thing: str, stream: str, *, cafile: str | None = None
    ) -> None:
        address = BrokerAddress.parse(broker, cafile)
        self.link = SerialLink(line)
        self.too_long = self.dropped = 0  # messages for the device that it has not got
        self._topics = {number: topic(thing, stream, verb, CBOR) for verb, number in VERBS.items()}
        self._numbers = {name: number for number, name in self._topics.items()}
        self._waiting: deque[bytes] = deque()
        self._brought: deque[tuple[int, bytes]] = deque(maxlen=REMEMBERED)
        self._refusal = "", ""  # code and text of the last one brought
        self._blocks = self._size = 0
        self._crc16 = 0xFFFF
        self._hash = hashlib.sha256()
        self._transport = SocketTransport(
            Session(
                f"sluice-gateway-{secrets.token_hex(6)}",
                [self._topics[VERBS[verb]] for verb in ("description", "data", "rejected")],
                bytearray(BUFFER_BYTES),
                address.user,
                address.password,
                KEEPALIVE,
            ),
            address.host,
            address.port,
            self._message,
            lambda _: None,  # what is said in between is dropped, and said again
            address.tls,
        )

    def __enter__(self) -> "Gateway":
        self._transport.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def serve(self, patience: float = 60.0, progress: Callable[[int], None] | None = None) -> Report:
        """Carries messages until the device reports. `progress` gets the bytes taken, each time it is more.

        DeviceSilent after `patience` seconds without a block taken; DeviceWrong; LineError.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            # A device that has asked is silent until the answer is here, and the broker is until it asks.
            self._transport.wait(0 if self._waiting else TURN)
            if self._waiting:
                self._forward(self._waiting.popleft())
            message = self.link.receive(TURN / 1000)
            if message is None:
                continue
            if self._account(message):
                deadline = time.monotonic() + patience
                if progress:
                    progress(self._size)
            if message.topic == REPORT:
                return self._report(message)
            if message.topic in self._topics:
                self._transport.send(self._topics[message.topic], message.payload)
        counts = f"{self.too_long} messages too long, {self.dropped} dropped, {self.link.repeated} repeated"
        said = f"; it last said {self.link.reader.noise!r}" if self.link.reader.noise else ""
        raise DeviceSilent(f"no block taken for {patience:g} s ({counts}){said}")

    def _forward(self, message: bytes) -> None:
        with suppress(ValueError):  # the device will refuse it
            fields = decode_answer(CBOR, message[1:])
            if message[0] == VERBS["data"]:
                index, data = fields.get("i"), fields.get("p")
                if isinstance(index, int) and isinstance(data, memoryview):
                    self._brought.append((index, bytes(data)))
            elif message[0] == VERBS["rejected"]:
                self._refusal = str(fields.get("o")), str(fields.get("m"))
        self.link.send(message)

    def _account(self, message: Message) -> bool:
        # Whether the device has taken one more block. Which of those brought it was, its CRC-16 says.
        if (message.blocks, message.crc16) == (self._blocks, self._crc16):
            return False
        for index, data in self._brought:
            crc16 = crc_hqx(data, self._crc16)
            if index == self._blocks == message.blocks - 1 and crc16 == message.crc16:
                self._blocks, self._crc16, self._size = message.blocks, crc16, self._size + len(data)
                self._hash.update(data)
                return True
        raise DeviceWrong(
            f"it says that it took {message.blocks} blocks with CRC-16 {message.crc16:04x}, "
            f"after {self._blocks} with {self._crc16:04x}: of what was brought to it, no block fits"
        )

    def _report(self, message: Message) -> Report:
        try:
            reason = str(decode_answer(CBOR, message.payload).get("o"))
        except ValueError as error:
            raise DeviceWrong(f"its report cannot be read: {error}") from error
        with suppress(NotAcknowledged):  # it has said all that it has to say
            self.link.send(bytes([ECHO]) + message.payload)
        said = self._refusal[1] if self._refusal[0] == reason else ""
        return Report(
            reason, said, self._blocks, self._size, message.crc16, self._crc16, self._hash.hexdigest()
        )

    def _message(self, name: str, payload: memoryview) -> None:
        if name not in self._numbers or len(payload) >= MESSAGE_BYTES:
            self.too_long += 1  # for its buffer, or for ours
        elif len(self._waiting) >= WAITING:
            self.dropped += 1
        else:
            self._waiting.append(bytes([self._numbers[name]]) + payload)
