"""A device that takes its update as a job, whole but for wires: `device_client.agent` in virtual time.

What `firmware_sim.update` is for a device that knows its stream, this is for one that has the OTA agent: its
job is the service's, and outlives every power cut as the flash does.
"""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chunker.bitmap import flip, test
from chunker.blocks import block_count, block_length
from device_client.agent import Agent
from device_client.client import verifier
from device_client.download import DESCRIBING, Download
from device_client.flash_sinks import PartitionSink
from device_client.jobs import FAILED, QUEUED, REJECTED, SUCCEEDED
from device_client.platform import ImageRefused
from firmware_sim.boot.image import ImageError
from firmware_sim.boot.loader import Boot, DowngradeRefused, Loader
from firmware_sim.boot.log import Event, LogFull, State
from firmware_sim.update import FILE_ID, STREAM, THING, MemoryService, Network, Outcome

_CERTIFICATE, _JOB = "signer", "update"
_BASE = f"$aws/things/{THING}/jobs/"
_ENDED = (SUCCEEDED, FAILED, REJECTED)


class JobService(MemoryService):
    """The same, and one job in the state `status`: an OTA update to its file, signed with `key`."""

    def __init__(self, file: bytes, key: ec.EllipticCurvePrivateKey) -> None:
        super().__init__(file)
        self.status = QUEUED
        self._details: dict[str, str] = {}
        signature = key.sign(file, ec.ECDSA(SHA256(), deterministic_signing=True))
        entry = {
            "filepath": "fw.bin",
            "filesize": len(file),
            "fileid": FILE_ID,
            "certfile": _CERTIFICATE,
            "sig-sha256-ecdsa": base64.b64encode(signature).decode(),
        }
        self._document = {"afr_ota": {"protocols": ["MQTT"], "streamname": STREAM, "files": [entry]}}

    def answers(self, name: str, payload: bytes) -> list[tuple[str, bytes]]:
        """(topic, payload) of each answer, in order; the device is never told of a job unasked."""
        if not name.startswith(_BASE):
            return super().answers(name, payload)
        request = json.loads(payload)
        answer: dict[str, Any] = {"clientToken": request["clientToken"]}
        verb = "accepted"
        if name == _BASE + "$next/get":
            if self.status not in _ENDED:
                execution = {"jobId": _JOB, "status": self.status, "statusDetails": self._details}
                answer["execution"] = execution | {"jobDocument": self._document}
        elif self.status in _ENDED:
            verb = "rejected"
            answer |= {"code": "InvalidStateTransition", "message": f"it is {self.status}"}
        else:
            self.status, self._details = request["status"], request["statusDetails"]
        return [(f"{name}/{verb}", json.dumps(answer).encode())]


class _Sink(PartitionSink):
    """Knows which blocks came to it that were not given up since."""

    came = bytearray()
    block_size = 1

    def start(self, size: int) -> None:
        came = self.came
        super().start(size)
        self.came = came

    def write(self, offset: int, data: memoryview) -> None:
        if not test(self.came, offset // self.block_size):
            flip(self.came, offset // self.block_size)
        super().write(offset, data)

    def discard(self) -> None:
        self.came = bytearray()  # even if that is cut short
        super().discard()


class _Slots:
    """The agent's platform, by the loader."""

    model, head_bytes = "SLFW", 16

    def __init__(self, loader: Loader, boot: Boot) -> None:
        self.version, self.slot_bytes = boot.image.version, boot.slot.image.size
        self.last: _Sink | None = None
        self._loader, self._boot = loader, boot
        self._confirmed = not boot.test

    def testing(self) -> bool:
        return not self._confirmed

    def refused(self) -> str:
        slot = self._loader.spare(self._boot)
        try:
            refused = slot.log.status(self._loader.verify(slot).digest).state is State.REFUSED
        except ImageError:
            return ""
        return "it had its test boots and did not confirm itself" if refused else ""

    def identify(self, head: bytes | bytearray) -> tuple[str, int] | None:
        magic, version = struct.unpack_from(">4sI", head)
        return (self.model, version) if magic == b"SLFW" else None

    def sink(self) -> PartitionSink:
        slot = self._loader.spare(self._boot)
        self.last = _Sink(slot.image, slot.journal)
        return self.last

    def request(self) -> None:
        try:
            self._loader.request(self._boot)
        except (ImageError, DowngradeRefused) as error:
            raise ImageRefused(str(error)) from None

    def confirm(self) -> None:
        try:
            self._loader.confirm(self._boot)
        except LogFull as error:
            raise ImageRefused(str(error)) from None
        self._confirmed = True

    def revert(self) -> None:
        image = self._boot.image
        try:
            self._boot.slot.log.append(Event.REFUSED, image.digest, image.security)
        except LogFull:
            pass  # then its tries will be used up

    def reset(self) -> None:
        """`JobDevice.life` ends."""


class JobDevice:
    """A device from reset to reset, as `firmware_sim.update.UpdatingDevice`."""

    def __init__(
        self,
        loader: Loader,
        network: Network,
        service: JobService,
        key: ec.EllipticCurvePublicKey,
        *,
        block_size: int,
        works: bool = True,
        booted: Callable[[Boot], None] = lambda _boot: None,
    ) -> None:
        self.fetched_again: list[int] = []
        self._loader, self._network, self._service = loader, network, service
        self._key = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._block_size, self._works, self._booted = block_size, works, booted
        self._now = self._lives = 0
        self._came = bytearray()

    def life(self) -> Outcome:
        """From a reset to the next, or until no job is pending. Raises what flash and loader raise."""
        self._lives += 1
        self._network.reset()
        boot = self._loader.boot()
        self._booted(boot)
        if boot.test and not self._works:
            return Outcome.RESET
        if not boot.test:
            self._loader.confirm(boot)  # a second time: an app calls it at every start
        slots = _Slots(self._loader, boot)
        agent = self._agent(slots)
        agent.session(True)
        seen: Download | None = None
        try:
            while not agent.over and not agent.nothing:
                wait = agent.turn()
                message = self._network.receive()
                self._now += 1 if message else max(1, wait)
                if message:
                    agent.message(*message)
                machine = agent.fetch.machine if agent.fetch else None
                if machine and machine is not seen and machine.state != DESCRIBING and slots.last:
                    seen = machine
                    self._described(machine, slots.last)
        finally:
            if slots.last and seen:
                self._came = slots.last.came
        agent.close()
        if agent.over:
            return Outcome.RESET
        return Outcome.CONFIRMED if self._service.status == SUCCEEDED else Outcome.REFUSED

    def _agent(self, slots: _Slots) -> Agent:
        agent = Agent(
            THING,
            slots,
            {_CERTIFICATE: self._key},
            lambda: "",
            f"life{self._lives}",
            block_size=self._block_size,
            budget=16 * self._block_size,
            verify=lambda key, digest, signature: verifier(key, signature)(digest),
            clock=lambda: self._now,
        )
        agent.send = self._network.send
        return agent

    def _described(self, machine: Download, sink: _Sink) -> None:
        size, block_size = machine.size, machine.block_size
        if self._came:
            again = [
                block_length(index, size, block_size)
                for index in range(block_count(size, block_size))
                if test(self._came, index) and not test(machine.held, index)
            ]
            self.fetched_again.append(sum(again))
        sink.came, sink.block_size = bytearray(machine.held), block_size
