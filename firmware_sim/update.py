"""A device that updates itself, whole but for wires: service, download, flash, loader; in virtual time.

What runs is what a device runs: the loader decides what boots, the app of a confirmed image downloads into
the spare slot and asks for a test boot, the app of a test boot confirms itself or does not.
"""

import random
from collections.abc import Callable
from enum import Enum

from chunker.answers import BlockHeads, block_prefix, description
from chunker.bitmap import test
from chunker.blocks import block_count, block_length
from chunker.limits import Limits
from chunker.requests import decode_describe, decode_get
from chunker.topics import CBOR, topic
from device_client.download import DONE, Download
from device_client.flash_sinks import PartitionSink
from firmware_sim.boot.image import Image, ImageError
from firmware_sim.boot.loader import Boot, DowngradeRefused, Loader
from firmware_sim.boot.log import LogFull, State

THING, STREAM, FILE_ID = "sim", "fw", 0


class MemoryService:
    """Answers requests for one file, in CBOR, with chunker's own codec. A Rejection is raised and not sent:
    in here nobody asks for what does not exist."""

    def __init__(self, file: bytes, version: int = 1) -> None:
        self._file = file
        self._version = version
        self._limits = Limits()

    def answers(self, name: str, payload: bytes) -> list[tuple[str, bytes]]:
        """(topic, payload) of each answer to a request on that topic, in order."""
        verb = name.split("/")[5]
        if verb == "describe":
            token = decode_describe(payload, CBOR, self._limits)
            files = [(FILE_ID, len(self._file))]
            return [self._to("description", description(CBOR, token, self._version, None, files))]
        request = decode_get(payload, CBOR, self._limits)
        size, block_size = len(self._file), request.block_size
        prefix, heads = block_prefix(CBOR, request.token), BlockHeads(CBOR, FILE_ID, block_size, size)
        return [
            self._to("data", prefix + heads[i] + self._file[i * block_size : (i + 1) * block_size])
            for i in request.wanted(size)
        ]

    @staticmethod
    def _to(verb: str, payload: bytes) -> tuple[str, bytes]:
        return topic(THING, STREAM, verb, CBOR), payload


class Outcome(Enum):
    """How the time between two resets ended."""

    RESET = "reset"
    """The app asked for one, or its watchdog bit."""
    CONFIRMED = "confirmed"
    """A newer image than the device began with runs, confirmed."""
    REFUSED = "refused"
    """The update is not to be had: the image is not genuine, not newer, or failed its test boots."""


class Network:
    """Between the device and its service: shuffles and loses messages if told to, and counts those that come.

    `arrived` is called with their number before each; it may raise PowerCut.
    """

    def __init__(
        self,
        service: MemoryService,
        rng: random.Random,
        arrived: Callable[[int], None],
        *,
        shuffled: bool,
        lost: float,
    ) -> None:
        self.messages = 0
        self._service = service
        self._arrived = arrived
        self._rng = rng
        self._shuffled = shuffled
        self._lost = lost
        self._under_way: list[tuple[str, bytes]] = []

    def reset(self) -> None:
        """Nobody listens any more to what was under way."""
        self._under_way.clear()

    def send(self, name: str, payload: bytes) -> None:
        """The device's request."""
        for answer in self._service.answers(name, payload):
            if self._rng.random() >= self._lost:
                self._under_way.append(answer)

    def receive(self) -> tuple[str, bytes] | None:
        """The next message, if any is under way."""
        if not self._under_way:
            return None
        self.messages += 1
        self._arrived(self.messages)
        return self._under_way.pop(self._rng.randrange(len(self._under_way)) if self._shuffled else 0)


class UpdatingDevice:
    """A device from reset to reset. `works`: whether a new image finds that it works, on its test boot.

    `fetched_again` has, for each download that went on, the bytes of blocks that came before and had to come
    again; `booted` is called with whatever the loader has decided to run, before it does.
    """

    def __init__(
        self,
        loader: Loader,
        network: Network,
        version: int,
        *,
        block_size: int,
        works: bool = True,
        booted: Callable[[Boot], None] = lambda _boot: None,
    ) -> None:
        self.fetched_again: list[int] = []
        self._loader = loader
        self._network = network
        self._version = version  # that the device began with
        self._block_size = block_size
        self._works = works
        self._booted = booted
        self._now = 0
        self._came = bytearray()  # blocks handed to a sink that were not given up since

    def life(self) -> Outcome:
        """From a reset to the next, or until nothing is left to do. Raises what flash and loader raise."""
        self._network.reset()
        boot = self._loader.boot()
        self._booted(boot)
        if boot.test and not self._works:
            return Outcome.RESET
        try:
            self._loader.confirm(boot)
        except LogFull:
            return Outcome.RESET
        return Outcome.CONFIRMED if boot.image.version > self._version else self._update(boot)

    def _update(self, boot: Boot) -> Outcome:
        slot = self._loader.spare(boot)
        sink = PartitionSink(slot.image, slot.journal)
        self._download(sink)
        try:
            image: Image = self._loader.verify(slot)
            if slot.log.status(image.digest).state is State.REFUSED:
                return Outcome.REFUSED  # it had its chance
            self._loader.request(boot)
        except (ImageError, DowngradeRefused):
            self._came = bytearray()  # it is given up, even if that is cut short
            sink.discard()
            return Outcome.REFUSED
        return Outcome.RESET

    def _download(self, sink: PartitionSink) -> None:
        token = f"run-{self._now}"
        machine = Download(
            THING,
            STREAM,
            FILE_ID,
            token,
            self._now,
            block_size=self._block_size,
            budget=16 * self._block_size,
            resume=sink.load(),
        )
        machine.connected()
        while machine.state != DONE:
            for name, payload in machine.poll(self._now):
                self._network.send(name, payload)
            message = self._network.receive()
            if message is None:
                self._now = machine.deadline
                continue
            self._now += 1
            event = machine.receive(*message, self._now)
            if event is None:
                continue
            _, offset, data = event
            if data is None:
                self._described(machine, sink)
            else:
                self._came[offset // machine.block_size >> 3] |= 1 << (offset // machine.block_size & 7)
                sink.write(offset, data)
        sink.finish()
        sink.close()

    def _described(self, machine: Download, sink: PartitionSink) -> None:
        size, block_size = machine.size, machine.block_size
        if not machine.resumed:
            sink.start(size)
            stream, file_id = machine.file
            sink.save((stream, file_id, machine.version, size, block_size, bytes(machine.held)))
        if self._came:
            again = [
                block_length(index, size, block_size)
                for index in range(block_count(size, block_size))
                if test(self._came, index) and not test(machine.held, index)
            ]
            self.fetched_again.append(sum(again))
        self._came = bytearray(machine.held)
