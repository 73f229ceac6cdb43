"""A broker in the test's hand: shows the service's packets in their order, and reads when it is told to."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cbor2

from tests.support.waiting import wait_until

RECEIVE_BUFFER = 16 * 1024


@dataclass(frozen=True)
class Sent:
    """A PUBLISH of the service. `start` is where it begins in all that the service has written."""

    thing: str
    verb: str
    fields: dict[str, Any]
    start: int
    packet_id: int | None

    @property
    def block(self) -> int:
        return int(self.fields["i"])


class _Client:
    """One connection: its packets, read by a thread of its own."""

    def __init__(self, sink: "Sink", connection: socket.socket) -> None:
        self.sink = sink
        self.connection = connection
        self.received = 0
        self.is_service = False

    def serve(self) -> None:
        buffer = bytearray()
        start = 0
        try:
            while True:
                if self.is_service:
                    self.sink.reading.wait()
                data = self.connection.recv(4096)
                if not data:
                    return
                self.received += len(data)
                buffer += data
                while (packet := _first(buffer)) is not None:
                    first, body, size = packet
                    self.take(first, body, start)
                    del buffer[:size]
                    start += size
        except OSError:
            return

    def take(self, first: int, body: bytes, start: int) -> None:
        kind = first >> 4
        if kind == 1:
            self.send(b"\x20\x03\x00\x00\x00")
        elif kind == 8:
            filters = body.count(b"$aws/things/")
            self.send(bytes([0x90, 3 + filters]) + body[:2] + b"\x00" + b"\x01" * filters)
            if filters == 2:
                self.is_service = True
                self.sink.service = self
        elif kind == 3:
            self.publish(first, body, start)
        elif kind == 4:
            with self.sink.lock:
                self.sink.acknowledged.add(int.from_bytes(body[:2], "big"))
        elif kind == 12:
            self.send(b"\xd0\x00")
        elif kind == 14:
            self.connection.shutdown(socket.SHUT_RDWR)

    def publish(self, first: int, body: bytes, start: int) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        packet_id = None
        parts = body[2:end].decode().split("/")
        if first & 6:
            packet_id = int.from_bytes(body[end : end + 2], "big")
            end += 2
        payload = body[end + 1 :]  # after the properties, of which there are none
        if packet_id is not None and not (self.sink.keeps_unacknowledged and parts[5] == "data"):
            self.acknowledge(packet_id)
        if self.is_service:
            assert body[end] == 0
            fields = cbor2.loads(payload) if parts[6] == "cbor" else {}
            with self.sink.lock:
                self.sink.sent.append(Sent(parts[2], parts[5], fields, start, packet_id))

    def acknowledge(self, packet_id: int) -> None:
        self.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))

    def send(self, data: bytes) -> None:
        with self.sink.writing:
            self.connection.sendall(data)


class Sink:
    """The broker: listens at `url`. What the service published is in `sent`, in its order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        self.reading = threading.Event()
        self.reading.set()
        self.sent: list[Sent] = []
        self.acknowledged: set[int] = set()
        self.keeps_unacknowledged = False
        """Whether data at QoS 1 waits for `Sink.acknowledge`."""
        self.service: _Client | None = None
        self._clients: list[_Client] = []
        self.asked = 0
        """Requests so far."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Before anybody connects, or the kernel would take megabytes for us.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            client = _Client(self, connection)
            self._clients.append(client)
            threading.Thread(target=client.serve, daemon=True).start()

    @property
    def received(self) -> int:
        """Bytes of the service that were read."""
        assert self.service is not None
        return self.service.received

    def get(self, thing: str, stream: str, **fields: Any) -> int:
        """A GetStream request at QoS 1; its packet id. `f` is 0 and `l` 4096 unless they are given."""
        topic = f"$aws/things/{thing}/streams/{stream}/get/cbor".encode()
        payload = cbor2.dumps({"f": 0, "l": 4096} | fields)
        self.asked += 1
        body = len(topic).to_bytes(2, "big") + topic + self.asked.to_bytes(2, "big") + b"\x00" + payload
        assert len(body) < 1 << 14
        assert self.service is not None
        size = bytes([len(body) & 0x7F | 0x80, len(body) >> 7] if len(body) > 0x7F else [len(body)])
        self.service.send(b"\x32" + size + body)
        return self.asked

    def acknowledge(self, sent: Sent) -> None:
        assert self.service is not None
        assert sent.packet_id is not None
        self.service.acknowledge(sent.packet_id)

    def of(self, thing: str, verb: str = "data") -> list[Sent]:
        """What was published to it so far."""
        with self.lock:
            return [sent for sent in self.sent if (sent.thing, sent.verb) == (thing, verb)]

    def until(self, condition: Callable[[], Any], what: str) -> None:
        wait_until(condition, 60, what)

    def until_acknowledged(self, packet_id: int) -> None:
        """Waits until the service has taken that request, and written what it writes before its next read."""
        self.until(lambda: packet_id in self.acknowledged, "a request that is not acknowledged")

    def __enter__(self) -> "Sink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reading.set()
        self._listener.close()
        for client in self._clients:
            client.connection.close()


def _first(buffer: bytearray) -> tuple[int, bytes, int] | None:
    """First byte and body of the first packet, and its size; None while it is not whole."""
    remaining = shift = 0
    for at in range(1, min(len(buffer), 5)):
        remaining |= (buffer[at] & 0x7F) << shift
        shift += 7
        if buffer[at] < 0x80:
            size = at + 1 + remaining
            return (buffer[0], bytes(buffer[at + 1 : size]), size) if len(buffer) >= size else None
    return None
