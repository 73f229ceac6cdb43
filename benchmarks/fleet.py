"""Many bare devices in one process: they ask, count every byte of the answers and throw it away, or check it.

As a program (`benchmarks.rig.Program`), with a Spec as JSON; it understands `go`, `count` and `wait`.
"""

import itertools
import json
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.wire import REQUEST_BYTES, asked, block, connected, get_payload, message_start
from chunker import topics

STALLED_SECONDS = 15.0
"""A device that waits so long for its next byte has failed."""
NAP_SECONDS = 0.001
"""Between two looks at the sockets, so that each read finds several messages: a device must cost little."""
BUFFER = bytearray(1 << 20)
REQUESTS_A_MIB = (1 << 20) // REQUEST_BYTES
# Linux drops what TCP received without copying it anywhere.
DISCARD = socket.MSG_TRUNC if sys.platform == "linux" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A fleet: how many devices, and what each of them asks for."""

    host: str
    port: int
    devices: int
    stream: str
    size: int
    """Bytes of each file."""
    block_size: int
    plan: str
    """`loop`: a MiB again and again until told to stop; `once`: the whole file; `random`: files and places
    at random, a MiB at each, until told to stop (the files are as `stamped` makes them)."""
    encoding: str = topics.CBOR
    in_flight: int = 2
    """Requests unanswered at a time."""
    source: str | None = None
    """The file that must arrive; without it nothing is checked but lengths."""
    files: int = 1
    """For `random`: so many, in streams of 50 named `stream` and a number."""
    lone: bool = False
    """A real device's reading: at once, copied, and acknowledged at once (brokers with Nagle's algorithm)."""


class Request(NamedTuple):
    """What is sent, and what must come: bytes in all, and where they are checked, all of them in order.

    The first of `expected` tells the request from others of the same device.
    """

    packet: bytes
    blocks: int
    size: int
    expected: list[bytes]


class Device:
    """One thing with one connection."""

    def __init__(self, thing: str, spec: Spec, plan: Iterator[Request], check: bool) -> None:
        self.thing = thing
        self.requests = plan
        self.unanswered: deque[Request] = deque()
        self.left = 0
        """Bytes to come of the first unanswered request."""
        self.heard_at = 0.0
        self.done_at: float | None = None
        self.failure: str | None = None
        self.blocks = 0
        topic_filter = topics.topic(thing, "+", "data", spec.encoding)
        self.socket = connected(spec.host, spec.port, f"device-{thing}", topic_filter)
        self._lone = spec.lone
        self._flags = 0 if check or spec.lone else DISCARD
        self._check = check
        self._held = bytearray()
        self._unchecked: list[Request] = []
        """Requests of which nothing has come."""
        self._expected: deque[bytes] = deque()
        """What is still to come of the one whose answer has begun."""

    def ask(self) -> None:
        """Sends the next request, if there is one."""
        request = next(self.requests, None)
        if request is None:
            return
        if not self.unanswered:
            self.left += request.size
        self.unanswered.append(request)
        if self._check:
            self._unchecked.append(request)
        self.socket.sendall(request.packet)

    def read(self, now: float) -> None:
        """Takes what has come, and asks on; `done_at` or `failure` is set when it is over."""
        if self._lone and hasattr(socket, "TCP_QUICKACK"):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        got = self.socket.recv_into(BUFFER, len(BUFFER), self._flags)
        self.heard_at = now
        self.left -= got
        if not got:
            self.failure = "the broker closed the connection"
        elif self._check:
            self._compare(got)
        if self.failure is not None:
            return
        while self.left <= 0 and self.unanswered:
            self.blocks += self.unanswered.popleft().blocks
            if self.unanswered:
                self.left += self.unanswered[0].size
            self.ask()
        if self.left < 0:
            self.failure = f"{-self.left} bytes more than were asked for"
        elif not self.unanswered:
            self.done_at = now

    def _compare(self, got: int) -> None:
        """Each answer must come whole and exact; which request is answered first is the service's affair."""
        held, at = self._held, 0
        held += memoryview(BUFFER)[:got]
        while True:
            if not self._expected:
                answered = (one for one in self._unchecked if held.startswith(one.expected[0], at))
                request = next(answered, None)
                if request is None:
                    candidates = [len(one.expected[0]) for one in self._unchecked]
                    break
                self._unchecked.remove(request)
                self._expected += request.expected
            candidates = [len(self._expected[0])]
            if not held.startswith(self._expected[0], at):
                break
            at += len(self._expected.popleft())
        del held[:at]
        if candidates and len(held) >= max(candidates):
            self.failure = f"other bytes than expected after {self.blocks} blocks"


class Fleet:
    """All devices, and the loop that reads for them."""

    def __init__(self, spec: Spec) -> None:
        check = spec.source is not None or spec.plan == "random"
        things = [f"thing-{number:04d}" for number in range(spec.devices)]
        self._in_flight = spec.in_flight
        self._nap = 0.0 if spec.lone else NAP_SECONDS
        self._devices = [Device(thing, spec, PLANS[spec.plan](spec, thing), check) for thing in things]
        self._began = 0.0
        self._running: dict[int, Device] = {}
        self._waited_for = False
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()

    def run(self) -> None:
        """Until stdin ends."""
        self._poll.register(0, select.POLLIN)
        checked_at = time.perf_counter()
        while True:
            ready = self._poll.poll(1)
            now = time.perf_counter()
            for number, _ in ready:
                device = self._running.get(number)
                if device is not None:
                    device.read(now)
                    if device.failure is not None or device.done_at is not None:
                        self._over(device)
                elif number == 0 and not self._told(sys.stdin.readline().strip()):
                    return
            if now > checked_at + 1:
                checked_at = now
                self._find_stalled(now)
            if self._waited_for and not self._running:
                self._waited_for = False
                self._report()
            if self._nap:
                time.sleep(self._nap)

    def _told(self, line: str) -> bool:
        if line == "go":
            self._begin()
            self._report()
        elif line == "count":
            self._report()
        elif line == "wait":
            self._waited_for = True
        return bool(line)

    def _begin(self) -> None:
        self._began = time.perf_counter()
        for device in self._devices:
            device.heard_at = self._began
            self._running[device.socket.fileno()] = device
            self._poll.register(device.socket.fileno(), select.POLLIN)
        # Round by round, so that nobody's second request is before another's first.
        for _ in range(self._in_flight):
            for device in self._devices:
                device.ask()

    def _find_stalled(self, now: float) -> None:
        for device in list(self._running.values()):
            if now - device.heard_at > STALLED_SECONDS:
                device.failure = f"nothing came for {STALLED_SECONDS:g} s after {device.blocks} blocks"
                self._over(device)

    def _over(self, device: Device) -> None:
        # It stays connected: a device that leaves costs the broker time.
        del self._running[device.socket.fileno()]
        self._poll.unregister(device.socket.fileno())

    def _report(self) -> None:
        devices = self._devices
        # Half-answered requests count by their bytes, or a short run of large requests would be all rounding.
        partly = sum(
            (1 - device.left / device.unanswered[0].size) * device.unanswered[0].blocks
            for device in devices
            if device.unanswered
        )
        report = {
            "at": time.perf_counter(),
            "blocks": sum(device.blocks for device in devices) + partly,
            "done": [device.done_at - self._began for device in devices if device.done_at],
            "failed": [f"{device.thing}: {device.failure}" for device in devices if device.failure],
        }
        print(json.dumps(report), flush=True)


def stamped(file_id: int, index: int) -> bytes:
    """How block `index` of a `random` file begins; zeros follow."""
    return struct.pack(">QQ", file_id, index)


def _spans(size: int, block_size: int) -> list[range]:
    """The blocks of each request that together ask for a whole file."""
    blocks, count = -(-size // block_size), REQUEST_BYTES // block_size
    return [range(first, min(first + count, blocks)) for first in range(0, blocks, count)]


def _once(spec: Spec, thing: str) -> Iterator[Request]:
    """The whole file in order."""
    start = lru_cache(lambda length: message_start(thing, spec.stream, spec.encoding, length))
    for span in _spans(spec.size, spec.block_size):
        get = get_payload(spec.encoding, 0, spec.block_size, span.start, len(span))
        packet = asked(thing, spec.stream, spec.encoding, get)
        expected: list[bytes] = []
        if spec.source is not None:
            for index in span:
                payload = _payload(spec, index)
                expected.append(start(len(payload)) + payload)
        yield Request(packet, len(span), _size(spec, len(thing), span), expected)


def _loop(spec: Spec, thing: str) -> Iterator[Request]:
    """A MiB of the file again and again, another one for each device.

    No more, since a responder with ready-made answers must soon have made them all.
    """
    requests = list(_once(spec, thing))
    begin = int(thing[-4:]) * 7 % len(requests)
    return itertools.cycle((requests + requests)[begin : begin + REQUESTS_A_MIB])


def _random(spec: Spec, thing: str) -> Iterator[Request]:
    """A MiB here and a MiB there."""
    chance = random.Random(thing)
    spans = _spans(spec.size, spec.block_size)
    while True:
        number, begin = chance.randrange(spec.files), chance.randrange(len(spans))
        stream, file_id = f"{spec.stream}{number // 50}", number % 50
        for span in spans[begin : begin + REQUESTS_A_MIB]:
            get = get_payload(spec.encoding, file_id, spec.block_size, span.start, len(span))
            packet = asked(thing, stream, spec.encoding, get)
            expected = []
            for index in span:
                length = min(spec.block_size, spec.size - index * spec.block_size)
                stamp = stamped(number, index)
                zeros = bytes(length - len(stamp))
                head = block(spec.encoding, file_id, index, stamp + zeros)[:-length]
                start = message_start(thing, stream, spec.encoding, len(head) + length)
                expected += [start + head + stamp, zeros]
            yield Request(packet, len(span), sum(map(len, expected)), expected)


PLANS = {"once": _once, "loop": _loop, "random": _random}


@lru_cache(maxsize=1 << 16)
def _size(spec: Spec, name_length: int, span: range) -> int:
    """Bytes on the wire that answer a request for `span`, for all things with names of that length."""
    payloads = [len(_payload(spec, index)) for index in span]
    thing = "t" * name_length
    return sum(len(message_start(thing, spec.stream, spec.encoding, length)) + length for length in payloads)


@lru_cache(maxsize=1 << 16)
def _payload(spec: Spec, index: int) -> bytes:
    """A block's message; of the right length alone where there is no source. The same for all devices."""
    length = min(spec.block_size, spec.size - index * spec.block_size)
    data = bytes(length)
    if spec.source is not None:
        with Path(spec.source).open("rb") as file:
            file.seek(index * spec.block_size)
            data = file.read(length)
    return block(spec.encoding, 0, index, data)


if __name__ == "__main__":
    fleet = Fleet(Spec(**json.loads(sys.argv[1])))
    print("{}", flush=True)
    fleet.run()
