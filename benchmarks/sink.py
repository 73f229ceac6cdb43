"""Stands in the broker's place: asks the service for blocks, acknowledges, counts and throws away what comes.

So that the service is what is measured, however many workers it has. Every request goes to each connection
that subscribed to requests, as a broker would do it. As a program (`benchmarks.rig.Program`), with the
stream's `stream`, `size`, `block_size`, `encoding` and the number of `things`; it says its `port` and
understands `go`, `count` and `stop`.
"""

import json
import select
import socket
import sys
import time
from collections import deque

from benchmarks.wire import REQUEST_BYTES, get_payload
from broker_bridge.mqtt.packets import CONNACK, DISCONNECT, PUBACK, PUBLISH, SUBACK, V5, encode_publish_start
from chunker import topics

IN_FLIGHT = 2
"""Requests of a thing that are unanswered."""
CONNECT, SUBSCRIBE, PINGREQ = 1, 8, 12
BUFFER_BYTES = 1 << 18


class Client:
    """A connection of the service."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.version = 0
        self.hears_requests = False
        self.over = False
        self.blocks = 0
        self.asked: deque[str] = deque()
        """Things whose requests it has not answered, in the order in which they were asked."""
        self.buffer = bytearray(BUFFER_BYTES)
        self.held = 0
        """Bytes at the start of the buffer that are the beginning of a packet."""
        self.skip = 0
        """Bytes to come that belong to a packet already counted."""

    def read(self) -> bool:
        """Takes what came; False when the connection is over."""
        try:
            got = self.link.recv_into(memoryview(self.buffer)[self.held :])
        except ConnectionResetError:
            got = 0
        if not got:
            return False
        buffer, at, end = self.buffer, self.skip, self.held + got
        while end - at >= 5 or (end - at >= 2 and buffer[at + 1] < 128):
            length, shift, body = 0, 0, at + 1
            while True:
                length |= (buffer[body] & 127) << shift
                shift += 7
                body += 1
                if buffer[body - 1] < 128:
                    break
            if buffer[at] & 0xF6 == PUBLISH << 4:  # at QoS 0: a block, of which only the number counts
                self.blocks += 1
            elif body + length > end:
                break
            else:
                self._control(buffer[at], bytes(buffer[body : body + length]))
            at = body + length
        self.skip = max(0, at - end)
        self.held = max(0, end - at)
        buffer[: self.held] = buffer[at : at + self.held]
        return not self.over

    def ask(self, topic: str, payload: bytes) -> None:
        """Sends a request; blocking, since the service never stops reading."""
        start = encode_publish_start(self.version, topic.encode(), 0, len(payload))
        self.link.sendall(start + payload)

    def _control(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == CONNECT:
            self.version = body[6]
            self._answer(CONNACK, b"\x00\x00" + self._no_properties())
        elif kind == SUBSCRIBE:
            at = 3 if self.version == V5 else 2
            reasons = b""
            while at < len(body):
                length = int.from_bytes(body[at : at + 2], "big")
                self.hears_requests |= b"/get/" in body[at + 2 : at + 2 + length]
                reasons += bytes([body[at + 2 + length] & 1])
                at += 3 + length
            self._answer(SUBACK, body[:2] + self._no_properties() + reasons)
        elif kind == PUBLISH:  # at QoS 1
            length = int.from_bytes(body[:2], "big")
            self._answer(PUBACK, body[2 + length : 4 + length])
        elif kind == PINGREQ:
            self.link.sendall(b"\xd0\x00")
        elif kind == DISCONNECT:
            self.over = True

    def _no_properties(self) -> bytes:
        return b"\x00" if self.version == V5 else b""

    def _answer(self, kind: int, body: bytes) -> None:
        self.link.sendall(bytes([kind << 4, len(body)]) + body)


class Sink:
    """All connections, and what is asked of them."""

    def __init__(self, stream: str, size: int, block_size: int, encoding: str, things: int) -> None:
        self._stream, self._encoding = stream, encoding
        self._things = [f"thing-{number:04d}" for number in range(things)]
        self._count = REQUEST_BYTES // block_size
        self._payloads = [
            get_payload(encoding, 0, block_size, first, self._count)
            for first in range(0, size // block_size, self._count)
        ]
        self._asked = 0
        self._asking = True
        self._unclaimed: list[str] = []
        """Things of which it is not yet known who answers them."""
        self._clients: dict[int, Client] = {}
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._listener = socket.create_server(("127.0.0.1", 0))

    def run(self) -> None:
        """Until stdin ends."""
        print(json.dumps({"port": self._listener.getsockname()[1]}), flush=True)
        self._poll.register(0, select.POLLIN)
        self._poll.register(self._listener.fileno(), select.POLLIN)
        while True:
            for number, _ in self._poll.poll():
                client = self._clients.get(number)
                if client is not None:
                    before = client.blocks
                    if not client.read():
                        self._gone(number)
                    elif client.blocks > before:
                        self._answered(client, client.blocks // self._count - before // self._count)
                elif number == self._listener.fileno():
                    self._accept()
                elif not self._told(sys.stdin.readline().strip()):
                    return

    def _told(self, line: str) -> bool:
        if line == "go":
            self._unclaimed = list(self._things)
            self._ask(self._unclaimed[-1])
        self._asking = line != "stop"
        if line:
            blocks = [client.blocks for client in self._clients.values() if client.hears_requests]
            report = {"at": time.perf_counter(), "blocks": blocks, "unclaimed": len(self._unclaimed)}
            print(json.dumps(report), flush=True)
        return bool(line)

    def _answered(self, client: Client, requests: int) -> None:
        """`client` finished so many requests: the same number of its things ask again.

        First each thing asks once, alone: whoever answers is its worker. Then the workers are kept busy, each
        with its own things, so that a fast one does not wait for a slow one.
        """
        if self._unclaimed:
            if requests:
                client.asked.append(self._unclaimed.pop())
                if self._unclaimed:
                    self._ask(self._unclaimed[-1])
                else:
                    self._begin()
            return
        for _ in range(requests if self._asking else 0):
            thing = client.asked.popleft()
            client.asked.append(thing)
            self._ask(thing)

    def _begin(self) -> None:
        for _ in range(IN_FLIGHT):
            for thing in self._things:
                self._ask(thing)

    def _ask(self, thing: str) -> None:
        topic = topics.topic(thing, self._stream, "get", self._encoding)
        payload = self._payloads[self._asked % len(self._payloads)]
        self._asked += 1
        for client in self._clients.values():
            if client.hears_requests:
                client.ask(topic, payload)

    def _accept(self) -> None:
        link, _ = self._listener.accept()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[link.fileno()] = Client(link)
        self._poll.register(link.fileno(), select.POLLIN)

    def _gone(self, number: int) -> None:
        self._poll.unregister(number)
        self._clients.pop(number).link.close()


if __name__ == "__main__":
    Sink(**json.loads(sys.argv[1])).run()
