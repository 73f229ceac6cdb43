"""A device that stops reading, through a Mosquitto at its defaults, costs nobody else a block."""

import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cbor2
import psutil
import pytest

from tests.conftest import MosquittoFactory
from tests.fairness.support import publish
from tests.sluice.support import Service

BLOCK = 4096
PER_REQUEST = 32
REQUESTS = 24
STREAM = "firmware"
STALL_SECONDS = 3.0
MEMORY = 64 << 20
"""What the service may grow by, bytes; half of what the device asks for and does not read is more."""


class Device:
    """A thing with a plain socket: MQTT 3.1.1, and nothing read that the test does not read."""

    def __init__(self, port: int, thing: str, *, receive_buffer: int | None = None) -> None:
        self.thing = thing
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", port))
        # Default Mosquitto holds small messages back until what went before was acknowledged.
        self.quick()
        self.buffer = bytearray()
        name = thing.encode()
        self.send(0x10, b"\x00\x04MQTT\x04\x02\x00\x00" + _text(name))
        assert self.packet()[0] == 0x20
        topic = f"$aws/things/{thing}/streams/+/data/cbor".encode()
        self.send(0x82, b"\x00\x01" + _text(topic) + b"\x00")
        assert self.packet()[0] == 0x90

    def quick(self) -> None:
        if hasattr(socket, "TCP_QUICKACK"):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def send(self, first: int, body: bytes) -> None:
        size = bytes([len(body) & 0x7F | 0x80, len(body) >> 7] if len(body) > 0x7F else [len(body)])
        self.socket.sendall(bytes([first]) + size + body)

    def get(self, first: int, count: int = PER_REQUEST) -> None:
        topic = f"$aws/things/{self.thing}/streams/{STREAM}/get/cbor".encode()
        payload = cbor2.dumps({"f": 0, "l": BLOCK, "o": first, "n": count})
        self.send(0x30, _text(topic) + payload)

    def packet(self) -> tuple[int, bytes]:
        """First byte and body of the next packet. TimeoutError."""
        while True:
            remaining = shift = 0
            for at in range(1, min(len(self.buffer), 5)):
                remaining |= (self.buffer[at] & 0x7F) << shift
                shift += 7
                if self.buffer[at] < 0x80:
                    size = at + 1 + remaining
                    if len(self.buffer) >= size:
                        packet = self.buffer[0], bytes(self.buffer[at + 1 : size])
                        del self.buffer[:size]
                        return packet
                    break
            self.quick()
            data = self.socket.recv(1 << 16)
            assert data, "the broker closed the connection"
            self.buffer += data

    def block(self) -> dict[str, Any]:
        """The next block."""
        first, body = self.packet()
        assert first & 0xF0 == 0x30
        end = 2 + int.from_bytes(body[:2], "big")
        assert body[2:end].decode() == f"$aws/things/{self.thing}/streams/{STREAM}/data/cbor"
        fields: dict[str, Any] = cbor2.loads(body[end + (2 if first & 6 else 0) :])
        return fields

    def download(self, data: bytes) -> None:
        """Asks for all of it once, request by request: each is answered whole, in order, by nothing else."""
        for start in range(0, len(data) // BLOCK, PER_REQUEST):
            self.get(start)
            for index in range(start, min(start + PER_REQUEST, len(data) // BLOCK)):
                block = self.block()
                assert block["i"] == index
                assert block["p"] == data[index * BLOCK : (index + 1) * BLOCK]


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_that_stops_reading_loses_only_its_own(
    tmp_path: Path, mosquitto: MosquittoFactory, qos: int
) -> None:
    broker = mosquitto(nodelay=False)
    (tmp_path / "sluice.toml").write_text(f"[broker]\ndata_qos = {qos}\n")
    with Service(tmp_path, "--broker", broker.url) as service:
        data = publish(tmp_path, service, STREAM, REQUESTS * PER_REQUEST * BLOCK)
        others = [Device(broker.port, f"other-{number}") for number in range(4)]
        others[0].download(data)  # so that the service holds what it will hold
        process = psutil.Process(service.process.pid)
        before = process.memory_info().rss

        stalled = Device(broker.port, "stalled", receive_buffer=16 * 1024)
        began = time.monotonic()
        asked = downloads = 0
        while downloads < len(others) or time.monotonic() - began < STALL_SECONDS:
            if asked < 100:
                for _ in range(25):
                    stalled.get(asked % REQUESTS * PER_REQUEST)
                    asked += 1
            others[downloads % len(others)].download(data)
            downloads += 1
            assert process.memory_info().rss - before < MEMORY
        assert asked == 100

        # What it lost is its own, and it has it when it asks for it again.
        held: Counter[int] = Counter()
        stalled.socket.settimeout(3)
        while True:
            missing = [index for index in range(len(data) // BLOCK) if not held[index]]
            if not missing:
                break
            stalled.get(missing[0])
            try:
                while not held[missing[0]]:
                    block = stalled.block()
                    index = block["i"]
                    assert block["p"] == data[index * BLOCK : (index + 1) * BLOCK]
                    held[index] += 1
            except TimeoutError:
                assert time.monotonic() - began < 120, "it never recovers"
        assert process.memory_info().rss - before < MEMORY
        others[0].download(data)


def test_qos_1_is_exact_for_all_at_once(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto(nodelay=False)
    (tmp_path / "sluice.toml").write_text("[broker]\ndata_qos = 1\n")
    with Service(tmp_path, "--broker", broker.url) as service:
        data = publish(tmp_path, service, STREAM, 4 * PER_REQUEST * BLOCK)
        devices = [Device(broker.port, f"device-{number}") for number in range(20)]
        for start in range(0, len(data) // BLOCK, PER_REQUEST):
            for device in devices:
                device.get(start)
        for device in devices:
            for index in range(len(data) // BLOCK):
                block = device.block()
                assert (block["i"], block["p"]) == (index, data[index * BLOCK : (index + 1) * BLOCK])
