"""One download over a simulated link: how much of the link it fills.

In virtual time, the machine (`device_client.download`) and the link's model (`firmware_sim.links`), and
between them a service that answers at once; nothing sleeps. Beside it, what one request at a time gets, which
is what devices without a window do. Counted are the PUBLISH packets of blocks that are new, after ten round
trips. One run in real time, with the service, Mosquitto, the relay and the client, confirms it.
"""

import heapq
import time
from dataclasses import dataclass

from benchmarks.report import Goal, Row
from benchmarks.rig import STREAM, workshop
from chunker import cbor
from device_client.client import download
from device_client.download import BLOCK, DONE, Download
from device_client.sinks import MemorySink
from firmware_sim.links.model import Direction, Link, LinkProfile, Way
from firmware_sim.links.relay import Relay, RelayThread

Message = tuple[str, bytes]

KB, MB = 1000, 1_000_000
TRIPS = (50, 200, 600)  # milliseconds
RATES = (64 * KB, 512 * KB, 4 * MB)  # bytes a second
BLOCK_SIZES = (1024, 4096, 16384)
MOST_BLOCKS = 90_000
SECONDS = 60.0  # of virtual time at most, after the first ten round trips
LOSS = 0.02
REAL_SECONDS = 15
OVERHEAD = 5 + len("$aws/things/bench/streams/bench/data/cbor") + 35
"""Bytes of a block's PUBLISH packet beside the block's own."""


@dataclass(frozen=True, slots=True)
class Case:
    """One download: round trip in ms, bytes a second, bytes."""

    trip: int
    rate: int
    block_size: int
    budget: int
    loss: float = 0.0

    @property
    def possible(self) -> float:
        """Bytes a second that budget and link allow."""
        return min(self.rate, self.budget * 1000 / self.trip)


def run(quick: bool) -> list[Row]:
    """A row for each block size, with and without loss: the worst case of all links and budgets."""
    rows = []
    for block_size in BLOCK_SIZES[:1] if quick else BLOCK_SIZES:
        for loss, goal in ((0.0, 0.9), (LOSS, 0.85)):
            cases = [
                Case(trip, rate, block_size, budget, loss)
                for trip in TRIPS
                for rate in RATES
                for budget in (16 * block_size, 1024 * 1024)
            ]
            if quick:
                cases = cases[::5]
            shares = {case: filled(case) / case.possible for case in cases}
            alone = {case: filled(case, alone=True) / case.possible for case in cases}
            worst = min(cases, key=lambda case: shares[case])
            rows.append(
                Row(
                    f"share of a link that blocks of {block_size} bytes fill, {loss:.0%} of them lost",
                    shares[worst],
                    "",
                    bare=alone[worst],
                    goal=Goal(">=", goal, ""),
                    note=f"the worst of {len(cases)}: {worst.trip} ms, {worst.rate // KB} KB/s, budget"
                    f" {worst.budget // 1024} KiB; beside it one request at a time",
                    details={"cases": [[c.trip, c.rate, c.budget, shares[c], alone[c]] for c in cases]},
                )
            )
    return [*rows, _real(quick)]


def _real(quick: bool) -> Row:
    """The whole of it: 200 ms of round trip, 1 MB/s, blocks of 4 KiB, 2 % lost."""
    case = Case(200, MB, 4096, MB, LOSS)
    up = Way(rate=case.rate, delay=case.trip / 2)
    down = Way(rate=case.rate, delay=case.trip / 2, loss=case.loss)
    link = LinkProfile(name="bench", up=up, down=down)
    size = (3 if quick else REAL_SECONDS) * MB
    with workshop(size) as shop, shop.broker() as broker, shop.service(broker.url):
        sink = _Arrivals()
        with RelayThread(Relay(broker.host, broker.port, link, seed=1)) as relay:
            url = f"mqtt://{broker.host}:{relay.port}"
            result = download(
                url, thing="bench", stream=STREAM, out=sink, block_size=case.block_size, budget=case.budget
            )
    begin = sink.times[0] + 10 * case.trip / 1000
    counted = sum(at > begin for at in sink.times) * (case.block_size + OVERHEAD)
    return Row(
        "the same in real time: service, Mosquitto, relay and client",
        counted / (sink.times[-1] - begin) / case.possible,
        "",
        goal=Goal(">=", 0.85, ""),
        note=f"{case.trip} ms, {case.rate // KB} KB/s, {case.loss:.0%} lost, {result.requests} requests,"
        f" {result.seconds:.0f} s",
    )


class _Arrivals(MemorySink):
    """Knows when each block came, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def write(self, offset: int, data: memoryview) -> None:
        super().write(offset, data)
        self.times.append(time.monotonic())


def filled(case: Case, *, alone: bool = False, seed: int = 1) -> float:
    """Bytes a second of new blocks' PUBLISH packets; `alone`: with one request at a time."""
    down = Way(rate=case.rate, delay=case.trip / 2, loss=case.loss)
    up = Way(rate=case.rate, delay=case.trip / 2)
    in_flight = max(1, case.budget // case.block_size)
    make = _OneAtATime if alone else Download
    device = make("mast", "fw", 0, "rdy", 0, "cbor", case.block_size, case.budget, in_flight=in_flight)
    size = MOST_BLOCKS * case.block_size
    transfer = Transfer(device, size, Link(LinkProfile(name="bench", up=up, down=down), seed))
    warm = 10 * case.trip / 1000
    transfer.run(warm)
    before = transfer.counted
    transfer.run(warm + min(SECONDS, size * 0.9 / case.possible - warm))
    return (transfer.counted - before) / (transfer.last - warm)


class Transfer:
    """`device` downloads `size` zero bytes over `link`, from time 0 on; another `link` may be put there."""

    def __init__(self, device: Download, size: int, link: Link) -> None:
        self.link = link
        self.counted = 0
        """Bytes of the PUBLISH packets that brought new blocks."""
        self.last = 0.0
        """When the last of them came, in seconds."""
        self._device = device
        self._size = size
        self._now = 0.0
        self._under_way: list[tuple[float, int, Message]] = []
        self._sent = 0
        device.connected()

    def run(self, end: float) -> None:
        """Until `end`, in seconds, or until the file is whole."""
        device = self._device
        while self._now < end and device.state != DONE:
            for message in device.poll(self._milliseconds()):
                self._send(self.link.up, message)
            due = device.deadline / 1000
            if not self._under_way or self._under_way[0][0] > due:
                self._now = max(self._now, due)
                continue
            self._now, _, message = heapq.heappop(self._under_way)
            for answer in _answers(message, self._size):
                self._send(self.link.down, answer)
            event = device.receive(*message, self._milliseconds())
            if event and event[0] == BLOCK:
                self.counted += _bytes(message)
                self.last = self._now

    def _milliseconds(self) -> int:
        return int(self._now * 1000 + 0.001)

    def _send(self, way: Direction, message: Message) -> None:
        for at in way.send(self._now, _bytes(message), droppable="/data/" in message[0]):
            self._sent += 1
            heapq.heappush(self._under_way, (at, self._sent, message))


def _bytes(message: Message) -> int:
    # A fixed header of 4 bytes or a few less or more, and the length of the topic.
    return 5 + len(message[0]) + len(message[1])


class _OneAtATime(Download):
    """Asks again only when all that it asked for is here."""

    def poll(self, now: int) -> list[tuple[str, bytes]]:
        self.busy = True
        super().poll(now)  # for what is late
        self.busy = bool(self._windows)
        self._flow.limit = self._flow.most
        self._flow.step = min(self._flow.most, self._flow.most_of_one)
        return super().poll(now)


def _answers(message: Message, size: int) -> list[Message]:
    topic, payload = message
    verb = topic.split("/")[5]
    if verb not in ("describe", "get"):
        return []
    request = cbor.decode(memoryview(payload))
    if verb == "describe":
        description = cbor.encode({"c": "rdy", "s": 1})
        # The map's third member, an array, is beyond the device's encoder.
        described = bytes([0xA3]) + description[1:] + b"\x61r\x81" + cbor.encode({"f": 0, "z": size})
        return [(topic.replace("describe", "description"), described)]
    first, length, bits = request["o"], request["l"], request["b"]
    assert isinstance(first, int) and isinstance(length, int) and isinstance(bits, memoryview)  # noqa: PT018
    return [
        (
            topic.replace("/get/", "/data/"),
            cbor.encode({"c": "rdy", "f": 0, "l": length, "i": first + bit, "p": bytes(length)}),
        )
        for bit in range(8 * len(bits))
        if bits[bit // 8] >> bit % 8 & 1
    ]
