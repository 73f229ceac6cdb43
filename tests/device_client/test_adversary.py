"""The machine under whatever a network, a disk and a power supply do: it ends with the exact file."""

import json
import random
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from device_client.download import BLOCK, DESCRIBED, DONE, Download
from device_client.resume import decode_record, encode_record
from tests.device_client.model import Service


class World:
    """A device with storage, a service, and a network between them that a seeded adversary runs."""

    def __init__(
        self, rng: random.Random, encoding: str, block_size: int, budget: int, faults: set[str]
    ) -> None:
        self.rng = rng
        self.faults = faults
        self.settings: dict[str, Any] = {
            "encoding": encoding,
            "block_size": block_size,
            "budget": budget,
            "patience": 600_000,
        }
        self.size = rng.randrange(0, 40 * block_size)
        self.service = Service({0: rng.randbytes(self.size), 1: rng.randbytes(999)})
        self.now = rng.randrange(0, 10**6)
        self.net: list[tuple[str, bytes]] = []
        self.store = bytearray()
        self.runs = 0
        self.saved: bytes = b""  # the record as it lies on the disk
        self.start()

    def start(self) -> None:
        """The device boots: blocks that no record claims may be anything, if they were written at all."""
        self.runs += 1
        self.outstanding: set[int] = set()
        record = decode_record(self.saved)
        self.download = Download("mast", "fw", 0, f"run{self.runs}", self.now, resume=record, **self.settings)
        self.download.connected()

    def bad(self, fault: str, chance: float) -> bool:
        return fault in self.faults and self.rng.random() < chance

    def step(self) -> None:
        for topic, payload in self.download.poll(self.now):
            self.net.append((topic, payload))  # its own request comes back to it
            before = len(self.service.requests)
            answers = self.service.answers(topic, payload)
            if len(self.service.requests) > before and not self.bad("loss", 0.1):
                self.net += answers
                self.outstanding |= {self.index(one) for one in answers if "/data/" in one[0]}
            elif "/describe/" in topic and not self.bad("loss", 0.3):
                self.net += answers
        block_size = self.settings["block_size"]
        assert len(self.outstanding) * block_size <= self.settings["budget"]
        if not self.net:
            self.now = max(self.now + 1, self.download.deadline)
            return
        self.now += 1
        place = self.rng.randrange(min(8, len(self.net))) if "reorder" in self.faults else 0
        topic, payload = self.net.pop(place)
        if self.bad("loss", 0.15):
            if "/data/" in topic:
                self.outstanding.discard(self.index((topic, payload)))
            return
        if self.bad("duplicate", 0.2):
            self.net.append((topic, payload))
        if self.bad("noise", 0.2):
            self.deliver(topic, self.rng.randbytes(self.rng.randrange(60)))
            self.deliver(topic, payload[: self.rng.randrange(len(payload) + 1)])
        self.deliver(topic, payload)

    def index(self, message: tuple[str, bytes]) -> int:
        fields = json.loads(message[1]) if message[0].endswith("json") else cbor2.loads(message[1])
        return int(fields["i"])

    def deliver(self, topic: str, payload: bytes) -> None:
        event = self.download.receive(topic, payload, self.now)
        if event is None:
            return
        kind, offset, data = event
        if kind == DESCRIBED and not self.download.resumed:
            self.store = bytearray(self.rng.randbytes(self.download.size))
            self.saved = b""
        elif kind == BLOCK:
            assert data is not None
            assert bytes(data) == self.service.files[0][offset : offset + len(data)]
            self.store[offset : offset + len(data)] = data
            self.outstanding.discard(offset // self.download.block_size)

    def save(self) -> None:
        one = self.download
        if one.block_size and one.state != "describing":
            self.saved = encode_record(*one.file, one.version, one.size, one.block_size, one.held)

    def cut(self) -> None:
        """Power is lost: what no record claims is garbage. What is under way in the network stays there."""
        record = decode_record(self.saved)
        if record:
            for index in range(-(-record[3] // record[4])):
                if not record[5][index // 8] >> index % 8 & 1:
                    start = index * record[4]
                    end = min(start + record[4], len(self.store))
                    self.store[start:end] = self.rng.randbytes(end - start)
        if self.rng.random() < 0.3:
            self.service.files[0] = self.rng.randbytes(self.size)
            self.service.version += 1
        self.start()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    encoding=st.sampled_from(["cbor", "json"]),
    block_size=st.sampled_from([256, 300, 1000, 4096]),
    blocks=st.integers(1, 12),
    faults=st.sets(st.sampled_from(["loss", "duplicate", "reorder", "disconnect", "cut", "noise"])),
)
def test_it_ends_with_the_exact_file(
    seed: int, encoding: str, block_size: int, blocks: int, faults: set[str]
) -> None:
    world = World(random.Random(seed), encoding, block_size, blocks * block_size, faults)
    for _ in range(20000):
        if world.download.state == DONE:
            break
        world.step()
        if world.bad("disconnect", 0.02):
            world.download.disconnected()
            assert world.download.poll(world.now) == []
            if world.rng.random() < 0.5:
                world.net.clear()
            world.outstanding.clear()
            world.now += world.rng.randrange(5000)
            world.download.connected()
        if world.bad("cut", 0.02):
            world.cut()
        if world.rng.random() < 0.1:
            world.save()
    assert world.download.state == DONE
    assert bytes(world.store) == world.service.files[0]
    if not faults:
        assert sum(one["n"] for one in world.service.requests) == -(-world.size // block_size)
        assert world.download.duplicates == 0
