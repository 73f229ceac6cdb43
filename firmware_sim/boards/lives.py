"""A board's update from reset to reset: loader, firmware, loader, and where the power goes in between."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from device_client.errors import BlockSizeError, DownloadError, DownloadTimeout, Rejected, SinkError
from device_client.mqtt import BrokerUnreachable, SubscriptionRefused
from firmware_sim.boards import firmware
from firmware_sim.boards.hardware import Hardware
from firmware_sim.boards.process import Cut, Life, live
from firmware_sim.boot.image import ImageError
from firmware_sim.boot.loader import TRIES, Boot, DowngradeRefused, Loader, Slot
from firmware_sim.boot.log import State
from firmware_sim.flash import TORN, PowerCut
from firmware_sim.update import Outcome

T = TypeVar("T")

FURTHER_BOOTS = 8
"""Beside those that cuts and tries cost; an update that takes more counts as one that does not end."""
GRACE = 60.0
"""Seconds that a process may take beyond twice the patience of its download."""
CUT_DELAY = 0.03
"""Seconds, at most, from what the firmware has said to the cut: it comes in the middle of what follows."""
TEST_DELAY = 0.1
"""The same in a test boot of a board that takes jobs: it connects, reports and confirms itself."""
LOADER_CUTS = 0.3
"""How often a cut is planned in the loader too, in one of its first LOADER_OPERATIONS on the flash."""
LOADER_OPERATIONS = 3

_ENDS: dict[str, type[DownloadError]] = {
    kind.__name__: kind
    for kind in (BlockSizeError, BrokerUnreachable, DownloadTimeout, SinkError, SubscriptionRefused)
}


class BoardCrashed(Exception):
    """The firmware ended as it never should, or its update has no end; says how."""


class Progress(NamedTuple):
    """Where an update stands; `held` of `size` bytes are in the spare slot, 0 while nothing is known."""

    boots: int
    cuts: int
    slot: str
    version: int
    test: bool
    held: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An update that came to its end."""

    outcome: Outcome
    """CONFIRMED or REFUSED."""
    reason: str
    """Why it was refused; else empty. Of a board that takes jobs, what it reported of the last one, where it
    was not cut off from the answer."""
    before: int
    """The version that ran at first."""
    version: int
    """The version that runs now."""
    boots: int
    cuts: int
    """Fewer than were asked for where the update was over before."""
    seconds: float
    size: int
    """Of the image, in bytes."""
    fetched_again: int
    """Bytes of blocks that the firmware had said to hold before a cut, and that were not there after it."""
    heap: int
    """Most bytes of MicroPython's heap in use; 0 on CPython, which does not tell."""


class Lives:
    """One update. `told`: what the firmware is told, but for what is of a single life."""

    def __init__(
        self,
        hardware: Hardware,
        told: dict[str, object],
        cuts: int,
        seed: int,
        progress: Callable[[Progress], object],
    ) -> None:
        self._hardware, self._told, self._most_cuts = hardware, told, cuts
        self._tries = max(TRIES, cuts + 1)  # a cut in a test boot is one that it has not survived
        self._chance = random.Random(seed)
        self._progress = progress
        self._boots = self._cuts = self._size = self._heap = self._held = self._again = 0
        self._why = ""
        self._takes_jobs = told["certificate"] is not None
        self._refused = ""  # why the loader did not take what it was asked to boot
        self._had_its_chance = ""  # as the loader has it at the last boot
        self._ended = False

    def run(self) -> Result:
        """To its end."""
        started = time.monotonic()
        before = 0
        most = self._most_cuts + self._tries + FURTHER_BOOTS
        while self._boots < most:
            self._boots += 1
            found = self._by_loader(_start)
            if found is None:
                continue
            running, spare, self._had_its_chance = found
            version = running.image.version
            before = before or version
            ended = self._ended if self._takes_jobs else self._why or version > before
            if spare is not None and ended:
                return Result(
                    outcome=Outcome.CONFIRMED if version > before else Outcome.REFUSED,
                    reason=self._why,
                    before=before,
                    version=version,
                    boots=self._boots,
                    cuts=self._cuts,
                    seconds=time.monotonic() - started,
                    size=self._size,
                    fetched_again=self._again,
                    heap=self._heap,
                )
            self._live(running, spare)
        raise BoardCrashed(f"no end after {most} boots and {self._cuts} power cuts")

    def _live(self, running: Boot, spare: Slot | None) -> None:
        life = self._run_firmware(running, spare)
        self._size, self._heap = max(self._size, life.size), max(self._heap, life.heap)
        if life.size:
            self._again += max(0, self._held - life.resumed)
            self._held = life.held
        if self._takes_jobs and life.ended:
            self._why = life.ended
        if life.status is None:
            self._cuts += 1
        elif life.status == firmware.NO_MORE_JOBS:
            self._ended = True
        elif life.status == firmware.REVERTED:
            pass  # the loader reads it in its log
        elif spare is None:
            if life.status == firmware.WORKS:
                self._by_loader(lambda loader: loader.confirm(_in(loader, running)))
            # Else it resets, and the loader counts its tries.
        elif life.status == firmware.TEST_BOOT:
            self._by_loader(lambda loader: self._request(loader, _in(loader, running)))
        elif life.status == firmware.REFUSED:
            self._why = life.ended.partition(" ")[2]
        elif life.status == firmware.FAILED:
            raise _failure(life.ended)
        else:
            raise BoardCrashed(f"the firmware ended with status {life.status}: {life.errors or 'no word'}")

    def _run_firmware(self, running: Boot, spare: Slot | None) -> Life:
        chip, interpreter = self._hardware.chip, self._hardware.interpreter
        sizes = chip.sector_size, chip.page_size, chip.write_size
        told = {
            **self._told,
            "flash": str(self._hardware.path),
            "chip": [*sizes, chip.erase_seconds, chip.program_seconds],
            "test": running.test,
            "version": running.image.version,
            "slot_bytes": running.slot.image.size,
            "security": running.image.security,
            "digest": running.image.digest.hex(),
            "log": (running.slot.log.start, running.slot.log.size),
            "refused": "",
        }
        if spare is not None:
            told["slot"] = spare.image.start, spare.image.size
            told["journal"] = spare.journal.start, spare.journal.size
            told["refused"] = self._refused or self._had_its_chance
        command = [*interpreter.command, firmware.__file__]

        def heard(life: Life) -> None:
            image = running.image
            so_far = self._boots, self._cuts, running.slot.name, image.version, running.test
            self._progress(Progress(*so_far, life.held, life.size))

        heard(Life())
        seconds = 2 * int(str(told["patience"])) / 1000 + GRACE
        return live(
            command, interpreter.environment, json.dumps(told), self._plan(running.test), seconds, heard
        )

    def _plan(self, test: bool) -> Cut | None:
        if self._cuts >= self._most_cuts:
            return None
        # A test boot has one word to say, and is soon over.
        share = 0 if test else self._chance.uniform(-0.2, 1.05 if self._takes_jobs else 0.95)
        delay = TEST_DELAY if test and self._takes_jobs else CUT_DELAY
        return Cut(min(1, share), self._chance.uniform(0, delay))

    def _by_loader(self, act: Callable[[Loader], T]) -> T | None:
        # What the loader does between two processes; None where the power was cut meanwhile.
        chance = self._chance
        with self._hardware.flash() as flash:
            if self._cuts < self._most_cuts and chance.random() < LOADER_CUTS:
                operation = chance.randrange(LOADER_OPERATIONS) + 1
                flash.cut_at(operation, chance.choice(TORN), chance.getrandbits(32))
            try:
                return act(self._hardware.loader(flash, self._tries))
            except PowerCut:
                self._cuts += 1
                return None

    def _request(self, loader: Loader, running: Boot) -> None:
        spare = loader.spare(running)
        refused = ""
        try:
            # A job that is tried again is somebody's wish that the image is.
            if self._takes_jobs or not (refused := _had_its_chance(loader, spare)):
                loader.request(running)
        except (ImageError, DowngradeRefused) as error:
            refused = str(error)
        if self._takes_jobs:
            self._refused = refused
        else:
            self._why = refused


def _start(loader: Loader) -> tuple[Boot, Slot | None, str]:
    # What runs, and the slot that it may write to, none in a test boot; and why what is there is not booted.
    boot = loader.boot()
    if boot.test:
        return boot, None, ""
    spare = loader.spare(boot)
    try:
        return boot, spare, _had_its_chance(loader, spare)
    except ImageError:
        return boot, spare, ""


def _had_its_chance(loader: Loader, spare: Slot) -> str:
    # Why the image there is not to be booted again, if it is so. ImageError.
    image = loader.verify(spare)
    if spare.log.status(image.digest).state is not State.REFUSED:
        return ""
    return f"version {image.version} had its test boots and did not confirm itself"


def _in(loader: Loader, running: Boot) -> Boot:
    # The same in the flash that this loader has read.
    return replace(running, slot=next(slot for slot in loader.slots if slot.name == running.slot.name))


def _failure(ended: str) -> DownloadError:
    name, _, text = ended.partition(" ")
    if name == Rejected.__name__:
        return Rejected(*text.split(": ", 1))
    return _ENDS.get(name, DownloadError)(text)
