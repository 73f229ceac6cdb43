"""A serial-to-MQTT gateway for devices that have a serial line and nothing else.

It publishes what the device says to the stream's topics and brings back what the service answers; topics are
numbers on the line, as MQTT-SN has them. It decides nothing: what to ask, whether to ask again and whether an
answer is right is the device's to say. It only watches: every message of the device says how many blocks it
has taken and the CRC-16 over them, so that the gateway hashes the very bytes that the device has taken.
"""

import hashlib
import os
import secrets
import time
from binascii import crc_hqx
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from chunker.messages import decode_answer
from chunker.topics import CBOR, topic
from firmware_sim.serial_link import MESSAGE_BYTES, Line, Message, NotAcknowledged, SerialLink

VERBS = {"describe": 1, "description": 2, "get": 3, "data": 4, "rejected": 5}
REPORT, ECHO = 6, 7
CONNECT_SECONDS = 10.0
WAITING = 16
"""Messages for the device that wait; a further one is dropped and counted: the device asks again."""
REMEMBERED = 8
"""Blocks brought to the device of which it may yet say that it took one."""


class GatewayError(Exception):
    """Base of what ends the gateway's work, but for what ends the line (`LineError`)."""


class BrokerUnreachable(GatewayError):
    """No session with the broker, or it does not grant the topics."""


class DeviceSilent(GatewayError):
    """The device has taken nothing new for as long as the caller was ready to wait."""


class DeviceWrong(GatewayError):
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

    `broker`: `mqtt[s]://[user:pass@]host[:port]`; ValueError for what is none. BrokerUnreachable at the
    start; later on a lost session is made anew, and the device asks again.
    """

    def __init__(
        self, line: Line, broker: str, thing: str, stream: str, *, cafile: str | None = None
    ) -> None:
        url = urlsplit(broker)
        if url.scheme not in ("mqtt", "mqtts") or not url.hostname:
            raise ValueError(f"broker {broker!r} is not mqtt[s]://[user:pass@]host[:port]")
        self.link = SerialLink(line)
        self.too_long = self.dropped = 0  # messages for the device that it has not got
        self._where = (url.hostname, url.port or (8883 if url.scheme == "mqtts" else 1883))
        self._topics = {number: topic(thing, stream, verb, CBOR) for verb, number in VERBS.items()}
        self._numbers = {name: number for number, name in self._topics.items()}
        self._answers = [self._topics[VERBS[verb]] for verb in ("description", "data", "rejected")]
        self._waiting: deque[bytes] = deque()
        self._brought: deque[tuple[int, bytes]] = deque(maxlen=REMEMBERED)
        self._refusal = "", ""  # code and text of the last one brought
        self._blocks = self._size = 0
        self._crc16 = 0xFFFF
        self._hash = hashlib.sha256()
        self._granted = Event()
        self._problem = ""
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, f"sluice-gateway-{secrets.token_hex(6)}", clean_session=True
        )
        client.connect_timeout = CONNECT_SECONDS
        client.reconnect_delay_set(1, 8)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        if url.username:
            client.username_pw_set(unquote(url.username), unquote(url.password or ""))
        if url.scheme == "mqtts":
            client.tls_set(cafile)

    def __enter__(self) -> "Gateway":
        self._wake_reads, self._wake_writes = os.pipe()
        os.set_blocking(self._wake_reads, False)
        os.set_blocking(self._wake_writes, False)
        try:
            self._client.connect(*self._where)
        except (OSError, ValueError) as error:
            self._close()
            raise BrokerUnreachable(f"cannot reach {self._where[0]}:{self._where[1]}: {error}") from error
        self._client.loop_start()
        if not self._granted.wait(CONNECT_SECONDS) or self._problem:
            self.__exit__(None, None, None)
            raise BrokerUnreachable(self._problem or f"no session within {CONNECT_SECONDS:g} s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._close()

    def serve(self, patience: float = 60.0, progress: Callable[[int], None] | None = None) -> Report:
        """Carries messages until the device reports. `progress` gets the bytes taken, each time it is more.

        DeviceSilent after `patience` seconds without a block taken; DeviceWrong; LineError.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            message = self.link.receive(0.0 if self._waiting else 0.5, self._wake_reads)
            if message is None:
                self._forward()
                continue
            if self._account(message):
                deadline = time.monotonic() + patience
                if progress:
                    progress(self._size)
            if message.topic == REPORT:
                return self._report(message)
            if message.topic in self._topics:
                self._client.publish(self._topics[message.topic], message.payload)
        counts = f"{self.too_long} messages too long, {self.dropped} dropped, {self.link.repeated} repeated"
        said = f"; it last said {self.link.reader.noise!r}" if self.link.reader.noise else ""
        raise DeviceSilent(f"no block taken for {patience:g} s ({counts}){said}")

    def _forward(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_reads, 4096)
        if not self._waiting:
            return
        message = self._waiting.popleft()
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

    def _close(self) -> None:
        os.close(self._wake_reads)
        os.close(self._wake_writes)

    def _connected(self, client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._problem = f"the broker refused the connection: {reason}"
            self._granted.set()
        else:
            client.subscribe([(name, 0) for name in self._answers])

    def _subscribed(
        self, _client: Client, _userdata: Any, _mid: int, reasons: list[Any], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._problem = f"the broker does not grant {', '.join(self._answers)}"
        self._granted.set()

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        # In paho's thread.
        if len(message.payload) >= MESSAGE_BYTES:
            self.too_long += 1
        elif len(self._waiting) >= WAITING:
            self.dropped += 1
        else:
            self._waiting.append(bytes([self._numbers[message.topic]]) + message.payload)
            with suppress(BlockingIOError):  # full: it wakes all the same
                os.write(self._wake_writes, b"\0")
