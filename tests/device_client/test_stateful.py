"""The machine under every order of events that a network, a clock and a power supply can come up with."""

import json
import random
from typing import Any

import cbor2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chunker.bitmap import flip
from device_client.download import BLOCK, DONE, FETCHING, Download
from device_client.errors import DownloadTimeout, Rejected
from device_client.resume import decode_record, encode_record
from tests.device_client.model import Message, Service

THING, STREAM = "mast", "fw"
BASE = f"$aws/things/{THING}/streams/{STREAM}/"
BLOCK_SIZE = 256
PATIENCE = 600_000


class Device(RuleBasedStateMachine):
    """One download after another of the same file, each taking up what the one before has saved."""

    @initialize(
        blocks=st.integers(0, 40),
        rest=st.integers(0, BLOCK_SIZE - 1),
        encoding=st.sampled_from(["cbor", "json"]),
        in_flight=st.integers(1, 12),
        gap=st.sampled_from([0, 0, 7, 3000]),
    )
    def begin(self, blocks: int, rest: int, encoding: str, in_flight: int, gap: int) -> None:
        self.content = random.Random(blocks).randbytes(blocks * BLOCK_SIZE + rest)
        self.service = Service({0: self.content, 1: b"another" * 100})
        self.encoding = encoding
        self.options: dict[str, Any] = {"in_flight": in_flight, "gap": gap}
        self.now = 0
        self.network: list[Message] = []  # towards the device
        self.kept: list[Message] = []  # answers to earlier runs, which may come at any time
        self.saved = b""
        self.flash = bytearray(len(self.content))
        self.run = 0
        self.up = False
        self.start()

    def start(self) -> None:
        self.run += 1
        self.delivered: set[int] = set()
        self.asked: dict[int, int] = {}  # block → how often it was asked for
        self.download: Download = Download(
            THING,
            STREAM,
            0,
            f"run-{self.run}",
            self.now,
            self.encoding,
            BLOCK_SIZE,
            64 * BLOCK_SIZE,
            PATIENCE,
            decode_record(self.saved),
            **self.options,
        )
        self.connect()

    @property
    def over(self) -> bool:
        return self.download.state == DONE

    def ask(self) -> None:
        """Polls; the service answers into the network."""
        for message in self.download.poll(self.now):
            assert self.up
            assert not self.download.busy
            before = len(self.service.requests)
            self.network += self.service.answers(*message)
            for request in self.service.requests[before:]:
                bits = request["b"]
                bits = bytes.fromhex(bits) if isinstance(bits, str) else bits
                for bit in range(8 * len(bits)):
                    if bits[bit // 8] >> bit % 8 & 1:
                        index = request["o"] + bit
                        assert index not in self.delivered, "it asks for what it has"
                        self.asked[index] = self.asked.get(index, 0) + 1

    def deliver(self, message: Message) -> None:
        event = self.download.receive(*message, self.now)
        if event is None:
            return
        kind, offset, data = event
        if kind != BLOCK:
            held = self.download.held
            self.delivered = {i for i in range(8 * len(held)) if held[i // 8] >> i % 8 & 1}
            assert len(self.delivered) == self.download.resumed
            return
        assert data is not None
        assert bytes(data) == self.content[offset : offset + len(data)]
        assert offset // BLOCK_SIZE not in self.delivered, "a block is handed out once"
        self.delivered.add(offset // BLOCK_SIZE)
        self.flash[offset : offset + len(data)] = data

    def encode(self, fields: dict[str, Any]) -> bytes:
        return cbor2.dumps(fields) if self.encoding == "cbor" else json.dumps(fields).encode()

    @rule()
    def poll(self) -> None:
        self.ask()

    @precondition(lambda self: self.network)
    @rule(place=st.integers(0, 5), twice=st.booleans())
    def arrives(self, place: int, twice: bool) -> None:
        message = self.network.pop(min(place, len(self.network) - 1))
        for _ in range(1 + twice):
            self.deliver(message)
        self.kept.append(message)
        self.ask()

    @precondition(lambda self: self.network)
    @rule(count=st.integers(1, 20))
    def in_order(self, count: int) -> None:
        for message in self.network[:count]:
            self.deliver(message)
            self.kept.append(message)
        del self.network[:count]
        self.ask()

    @precondition(lambda self: self.network)
    @rule(count=st.integers(1, 8))
    def lost(self, count: int) -> None:
        del self.network[:count]

    @precondition(lambda self: self.kept and not self.over)
    @rule(place=st.integers(0, 1000))
    def comes_again(self, place: int) -> None:
        """Of this run a duplicate; of an earlier one foreign, since it may be of another version."""
        before = len(self.delivered)
        message = self.kept[place % len(self.kept)]
        self.deliver(message)
        assert len(self.delivered) in (before, before + ("/data/" in message[0]))

    @precondition(lambda self: not self.over)
    @rule(
        length=st.sampled_from([0, 1, 255, 257, 4096, 200_000]),
        index=st.sampled_from([-1, 0, 1, 39, 40, 41, 98305, 2**40]),
        file_id=st.sampled_from([0, 1, 255]),
        said=st.sampled_from([None, 0, 255, 256]),
    )
    def wrong_block(self, length: int, index: int, file_id: int, said: int | None) -> None:
        right = index * BLOCK_SIZE <= len(self.content) - length and length == BLOCK_SIZE
        assert not right
        p: Any = bytes(length) if self.encoding == "cbor" else "AAAA" * (length // 3)
        fields = {"c": f"run-{self.run}", "f": file_id, "l": length if said is None else said, "i": index}
        last = -(-len(self.content) // BLOCK_SIZE) - 1
        if file_id == 0 and index == last and length == len(self.content) - last * BLOCK_SIZE:
            return  # by chance of the right length: nothing tells such a block from a true one
        if self.encoding == "json" and len(p) // 4 * 3 in (BLOCK_SIZE, len(self.content) - last * BLOCK_SIZE):
            return
        before = set(self.delivered)
        assert (
            self.download.receive(BASE + f"data/{self.encoding}", self.encode(fields | {"p": p}), self.now)
            is None
        )
        assert self.delivered == before

    @rule(noise=st.binary(max_size=60), verb=st.sampled_from(["data", "description", "rejected", "get"]))
    def noise(self, noise: bytes, verb: str) -> None:
        assert self.download.receive(f"{BASE}{verb}/{self.encoding}", noise, self.now) is None

    @rule(code=st.sampled_from(["VersionMismatch", "ResourceNotFound", "InternalError", "Unheard"]))
    def refusal_of_another(self, code: str) -> None:
        fields = {"o": code, "m": "why", "c": "somebody"}
        assert self.download.receive(f"{BASE}rejected/{self.encoding}", self.encode(fields), self.now) is None

    @rule(milliseconds=st.sampled_from([0, 1, 20, 600, 2500, 20_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.go_on()

    @rule()
    def sleeps_until_the_deadline(self) -> None:
        self.now = max(self.now, self.download.deadline)
        self.go_on()
        assert self.over or self.download.deadline > self.now, "it would be polled for ever"

    @rule(hours=st.integers(1, 10_000))
    def the_clock_jumps(self, hours: int) -> None:
        self.now += hours * 3_600_000
        if not self.over:
            with pytest.raises(DownloadTimeout, match="nothing new for"):
                self.download.poll(self.now)
            self.power_cut()

    def go_on(self) -> None:
        try:
            self.ask()
        except DownloadTimeout:
            assert self.now >= PATIENCE
            self.power_cut()

    @rule()
    def disconnect(self) -> None:
        self.up = False
        self.download.disconnected()
        self.ask()

    @rule()
    def connect(self) -> None:
        self.up = True
        self.download.connected()

    @rule(busy=st.booleans())
    def busy(self, busy: bool) -> None:
        self.download.busy = busy

    @precondition(lambda self: self.download.state == FETCHING)
    @rule()
    def save(self) -> None:
        one = self.download
        self.saved = encode_record(*one.file, one.version, one.size, one.block_size, one.held)

    @rule()
    def power_cut(self) -> None:
        self.kept += self.network
        self.network.clear()
        self.start()

    @precondition(lambda self: not self.over)
    @rule()
    def another_version(self) -> None:
        self.content = random.Random(self.service.version).randbytes(len(self.content))
        self.service.files[0] = self.content
        self.service.version += 1
        self.kept += self.network
        self.network.clear()
        if self.download.state == FETCHING and self.content:
            self.download.busy = False
            self.connect()
            with pytest.raises(Rejected, match="VersionMismatch"):
                self.until_refused()
        self.network.clear()
        self.start()

    def until_refused(self) -> None:
        while True:
            self.ask()
            for message in self.network:
                self.deliver(message)
            self.now = max(self.now, self.download.deadline)

    @invariant()
    def no_more_is_held_than_came(self) -> None:
        one = getattr(self, "download", None)
        if one is not None and one.state == FETCHING:
            assert one.missing == -(-len(self.content) // BLOCK_SIZE) - len(self.delivered)
            assert one.missing > 0

    def teardown(self) -> None:
        """Whatever happened: on a good link it ends, with the file."""
        if not hasattr(self, "download"):
            return
        self.download.busy = False
        self.connect()
        for _ in range(10_000):
            if self.over:
                break
            self.ask()
            if not self.network:
                self.now = max(self.now, self.download.deadline)
            for message in self.network:
                self.deliver(message)
            self.network.clear()
        assert self.over
        assert bytes(self.flash) == self.content


TestDevice = Device.TestCase
TestDevice.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 5 * 256, 5 * 256 + 1])
def test_resume_at_every_block_boundary(size: int) -> None:
    """With the first blocks held, with the last, with all but one: only what is missing is asked for."""
    content = random.Random(size).randbytes(size)
    count = -(-size // 256)
    everything = set(range(count))
    states = [set(range(k)) for k in range(count + 1)] + [set(range(k, count)) for k in range(count)]
    states += [everything - {k} for k in range(count)]
    for held in states:
        bits = bytearray((count + 7) // 8)
        for index in held:
            flip(bits, index)
        record = decode_record(encode_record(STREAM, 0, 1, size, 256, bits))
        assert record is not None
        service = Service({0: content})
        download = Download(THING, STREAM, 0, "t", 0, block_size=256, resume=record)
        download.connected()
        came: list[int] = []
        for now in range(100):
            for message in download.poll(now):
                for answer in service.answers(*message):
                    event = download.receive(*answer, now)
                    if event and event[0] == BLOCK:
                        assert bytes(event[2] or b"") == content[event[1] : event[1] + 256]
                        came.append(event[1] // 256)
        assert download.state == DONE
        assert sorted(came) == sorted(everything - held)
