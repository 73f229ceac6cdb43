"""A device with two slots and a loader, its agent, a network and the services, in virtual time.

The power can be cut before or after anything durable. What is durable is in `Flash` and in the services.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_client.agent import Agent
from device_client.client import verifier
from device_client.errors import SinkError
from device_client.mqtt import TOO_LONG
from device_client.platform import ImageRefused
from device_client.resume import decode_record, encode_record
from device_client.sinks import Record
from tests.device_client.jobs_model import JobsService, Try, ota_document
from tests.device_client.model import Message, Service

THING, MODEL = "mast", "M1"
BLOCK_SIZE = 256
SLOT = 8192
BUFFER = 4096
HEAD = struct.Struct(">4sI")
KEY = ec.derive_private_key(0xA6E27, ec.SECP256R1())
STRANGER = ec.derive_private_key(0x57A2, ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
TRIES = 3
"""Boots of an image that is on test."""


class PowerCut(Exception):
    """Everything that is not durable is gone."""


@cache
def image(version: int, size: int = 3000, model: str = MODEL, works: bool = True) -> bytes:
    """An image; the third byte of its payload says whether it will find that it works."""
    body = HEAD.pack(model.encode().ljust(4), version) + bytes([0, 0, works])
    return body + bytes(range(256)) * (size // 256) + b"end" * version


@cache
def sign(content: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.sign(content, ec.ECDSA(SHA256(), deterministic_signing=True))


@dataclass
class Flash:
    """What outlives a power cut. `state` of an image: "", "confirmed", "requested", "refused"."""

    slots: list[bytearray]
    states: list[str]
    running: int = 0
    tries: int = 0
    record: bytes = b""
    cut_in: int = 0  # durable operations until the power goes: odd ones before, even ones after; 0: it stays
    operations: int = 0

    def durably(self, act: Callable[[], None]) -> None:
        """Does it, unless the power goes before."""
        for moment in ("before", "after"):
            self.operations += 1
            if self.cut_in and self.operations >= self.cut_in:
                self.cut_in = 0
                raise PowerCut(moment)
            if moment == "before":
                act()

    @property
    def spare(self) -> int:
        return 1 - self.running

    def boot(self) -> None:
        """The loader: a requested image at most TRIES times, else the newest confirmed one."""
        requested = [i for i in (0, 1) if self.states[i] == "requested"]
        if requested and self.tries < TRIES:
            self.tries += 1
            self.running = requested[0]
            return
        for i in requested:
            self.states[i] = "refused"
        confirmed = [i for i in (0, 1) if self.states[i] == "confirmed"]
        self.running = max(confirmed, key=lambda i: _version(self.slots[i]))


def _version(content: bytes | bytearray) -> int:
    return int(HEAD.unpack_from(content)[1])


class SpareSink:
    """`device_client.sinks.Sink` in the spare slot."""

    def __init__(self, flash: Flash) -> None:
        self.flash, self.slot = flash, flash.spare

    def load(self) -> Record | None:
        return decode_record(self.flash.record)

    def start(self, size: int) -> None:
        if size > SLOT:
            raise SinkError(f"{size} bytes do not fit")
        self.discard()

    def write(self, offset: int, data: memoryview) -> None:
        def act() -> None:
            assert self.flash.states[self.slot] not in ("confirmed", "requested"), (
                "what may boot is overwritten"
            )
            content = self.flash.slots[self.slot]
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data

        self.flash.durably(act)

    def read(self, offset: int, length: int) -> bytes | bytearray:
        return self.flash.slots[self.slot][offset : offset + length]

    def save(self, record: Record) -> None:
        def act() -> None:
            self.flash.record = encode_record(*record)

        self.flash.durably(act)

    def finish(self) -> None:
        """It is durable as it is."""

    def discard(self) -> None:
        def act() -> None:
            self.flash.record = b""
            self.flash.states[self.slot] = ""
            self.flash.slots[self.slot] = bytearray()

        self.flash.durably(act)

    def close(self) -> None:
        """Nothing to let go of."""


class World:
    """Everything; `step` does one thing, `run` goes on until nothing is left to do."""

    def __init__(self, version: int = 1) -> None:
        self.now = 0
        self.pace = 1  # milliseconds from one message to the next
        self.flash = Flash([bytearray(image(version)), bytearray()], ["confirmed", ""])
        self.jobs = JobsService(THING)
        self.streams: dict[str, Service] = {}
        self.network: list[Message] = []  # to the device
        self.up = self.connects = True
        self.cuts = self.boots = 0
        self.ran: list[bytes] = []  # what was booted
        self.test_says: list[str | None] = []  # before the image's own word
        self.forgets = False  # the loader does not tell what it refused
        self.other: Callable[..., tuple[str, dict[str, str]] | None] | None = None
        self.loses: Callable[[Message], bool] = lambda _message: False
        self.start()

    # --- the platform

    model, head_bytes, slot_bytes = MODEL, HEAD.size, SLOT

    @property
    def running(self) -> bytes:
        return bytes(self.flash.slots[self.flash.running])

    @property
    def version(self) -> int:
        return _version(self.running)

    def testing(self) -> bool:
        return self.flash.states[self.flash.running] == "requested"

    def refused(self) -> str:
        refused = self.flash.states[self.flash.spare] == "refused" and not self.forgets
        return "it did not confirm itself" if refused else ""

    def identify(self, head: bytes | bytearray) -> tuple[str, int] | None:
        name, version = HEAD.unpack(head)
        return None if b"\0" in name else (name.decode().strip(), version)

    def sink(self) -> SpareSink:
        return SpareSink(self.flash)

    def request(self) -> None:
        assert not self.testing()

        def act() -> None:
            self.flash.states[self.flash.spare], self.flash.tries = "requested", 0

        if not self.flash.slots[self.flash.spare].endswith(b"end"):
            raise ImageRefused("the loader does not trust it")
        self.flash.durably(act)

    def confirm(self) -> None:
        def act() -> None:
            self.flash.states[self.flash.running] = "confirmed"

        self.flash.durably(act)

    def revert(self) -> None:
        def act() -> None:
            self.flash.states[self.flash.running] = "refused"

        assert self.testing()
        self.flash.durably(act)

    def reset(self) -> None:
        """`step` sees that the agent is over."""

    def self_test(self) -> str | None:
        if self.test_says:
            return self.test_says.pop(0)
        return "" if self.running[HEAD.size + 2] else "the radio is dead"

    # --- time, power, network

    def start(self) -> None:
        """A boot. An image that does not work at all crashes at once."""
        self.boots += 1
        assert self.boots < 500, "it reboots for ever"
        self.network.clear()
        self.flash.boot()
        self.ran.append(self.running)
        self.agent = Agent(
            THING,
            self,
            {"/certs/signer.pem": PUBLIC},
            self.self_test,
            f"boot{self.boots}",
            block_size=BLOCK_SIZE,
            budget=1024,
            report_blocks=4,
            verify=lambda key, digest, signature: verifier(key, signature)(digest),
            other=self.other,
            clock=lambda: self.now,
        )
        self.agent.send = self.sent
        self.connected = False

    def sent(self, topic: str, payload: bytes) -> None:
        """The agent's message; services answer at once, into the network."""
        message = topic, payload
        if not self.connected or self.loses(message):
            return
        answers = self.jobs.answers(*message)
        stream = topic.split("/")[4] if "/streams/" in topic else ""
        if stream in self.streams:
            answers += self.streams[stream].answers(*message)
        self.network += self.jobs.told + [one for one in answers if not self.loses(one)]
        self.jobs.told.clear()

    def publish(self, stream: str, content: bytes) -> None:
        self.streams[stream] = Service({0: content})

    def update(self, content: bytes, job_id: str = "up", **changes: object) -> Try:
        """A stream with the image, and a job for it."""
        self.publish(f"AFR_OTA-{job_id}", content)
        document = ota_document(f"AFR_OTA-{job_id}", len(content), sign(content), **changes)
        return self.jobs.create(job_id, document)

    def step(self) -> None:
        """One message, or the time passes until something is due. A cut of the power is a boot."""
        try:
            self._step()
        except PowerCut:
            self.cuts += 1
            self.start()

    def _step(self) -> None:
        agent = self.agent
        if agent.over:
            self.start()
            return
        if self.up != self.connected:
            self.connected = self.up
            self.network.clear()
            agent.session(self.up)
        wait = agent.turn()
        if self.connected:
            self.network += self.jobs.told
        self.jobs.told.clear()  # what is told while there is no session is lost
        if agent.over:
            return
        if self.network:
            self.now += self.pace
            topic, payload = self.network.pop(0)
            if len(topic) + len(payload) > BUFFER:
                topic, payload = TOO_LONG + topic, b"%d" % BUFFER
            agent.message(topic, payload)
        else:
            self.now += max(1, wait)

    def run(self, minutes: float = 120, until: Callable[[], bool] | None = None) -> None:
        """Until `until`, or no job is pending and the agent is idle; AssertionError after so long."""
        end = self.now + minutes * 60_000
        while not (until() if until else self.done()):
            assert self.now < end, f"{self.agent.state} for ever: {self.jobs.tries}"
            self.step()

    def done(self) -> bool:
        settled = self.agent.state == "idle" and not self.agent.over and not self.testing()
        return settled and self.jobs.next() is None and not self.network and self.connected == self.up
