"""What to run: test → confirm → revert after MCUboot's idea, over two slots; images run from either.

MCUboot's default swaps the two images, so that code linked for one address runs always there; every swapped
sector is then an instant in which a power cut must be undone. Here nothing is ever moved: the newest
confirmed image runs where it is, and the other slot is free for the next one, as with ESP-IDF's OTA slots
or MCUboot's direct-XIP. So all the loader ever writes is a record of 32 bytes, and a cut in that leaves the
decision as it was before or as it is after.

    request   the app has written an image to the spare slot and asks for a test boot
    boot      verifies both images; runs a requested one if it is newer, at most `tries` times
    confirm   the app of a test boot says that it works: from then on it is the newest confirmed image
    revert    it did not: after `tries` the confirmed image runs again, and the other is refused

A power cut during a test boot cannot be told from a crash; that is why there is more than one try.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_sim.boot.image import Image, ImageError, verify
from firmware_sim.boot.log import Event, LogFull, SlotLog, State
from firmware_sim.flash import Flash, Partition

TRIES = 3


class NothingToBoot(Exception):
    """Neither slot holds an image that may run: the device needs a cable."""


class DowngradeRefused(Exception):
    """The image is older than the one that runs, or its security counter is lower than one once confirmed."""


class NotConfirmed(Exception):
    """The running image is on its test boot: the other slot is what it falls back to, and stays."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an image lies, with its log and the journal of the download that writes it."""

    name: str
    image: Partition
    log: SlotLog
    journal: Partition


@dataclass(frozen=True, slots=True)
class Boot:
    """What runs; `test`: it is lost unless it is confirmed."""

    slot: Slot
    image: Image
    test: bool


def slots(flash: Flash, image_bytes: int, journal_bytes: int) -> tuple[Slot, Slot]:
    """Two slots of those sizes from the start of the flash; ValueError where they are no whole sectors."""
    end = 2 * image_bytes
    logs = end + 2 * flash.sector_size

    def slot(number: int) -> Slot:
        return Slot(
            "AB"[number],
            flash.partition(number * image_bytes, image_bytes),
            SlotLog(flash.partition(end + number * flash.sector_size, flash.sector_size)),
            flash.partition(logs + number * journal_bytes, journal_bytes),
        )

    return slot(0), slot(1)


class Loader:
    """Decides over two slots; trusts only images signed with `key`. `tries`: test boots of one, from 1."""

    def __init__(self, slots: Sequence[Slot], key: ec.EllipticCurvePublicKey, tries: int = TRIES) -> None:
        self.slots = slots
        self._key = key
        self._tries = tries

    def install(self, image: bytes) -> None:
        """As in the factory: the first image, confirmed, in the first slot of an erased flash."""
        slot = self.slots[0]
        slot.image.program(0, image + bytes(-len(image) % slot.image.write_size))
        found = self.verify(slot)
        slot.log.append(Event.CONFIRMED, found.digest, found.security)

    def verify(self, slot: Slot) -> Image:
        """The image in the slot. Raises ImageError."""
        return verify(slot.image.read, slot.image.size, self._key)

    def boot(self) -> Boot:
        """What runs now; its bytes are write-protected until the next reset. Raises NothingToBoot."""
        floor = self._floor()
        why = []
        confirmed: Boot | None = None
        requested: list[Boot] = []
        for slot in self.slots:
            try:
                image = self.verify(slot)
            except ImageError as error:
                why.append(f"{slot.name}: {error}")
                continue
            state = slot.log.status(image.digest).state
            if image.security < floor:
                why.append(f"{slot.name}: security counter {image.security} is under {floor}")
            elif state is State.REQUESTED:
                requested.append(Boot(slot, image, test=True))
            elif state is not State.CONFIRMED:
                why.append(f"{slot.name}: version {image.version} is {state.value}")
            elif confirmed is None or image.version > confirmed.image.version:
                confirmed = Boot(slot, image, test=False)
        chosen = next((boot for boot in requested if self._try(boot, confirmed)), confirmed)
        if chosen is None:
            raise NothingToBoot("; ".join(why))
        chosen.slot.image.protect()
        return chosen

    def spare(self, running: Boot) -> Slot:
        """The slot that the next image is written to. Raises NotConfirmed."""
        if running.slot.log.status(running.image.digest).state is not State.CONFIRMED:
            raise NotConfirmed(
                f"version {running.image.version} in slot {running.slot.name} is not confirmed"
            )
        self.confirm(running)  # a second time, before what it would fall back to is given up
        return next(slot for slot in self.slots if slot is not running.slot)

    def request(self, running: Boot) -> Image:
        """Asks for a test boot of the spare slot. Raises ImageError, NotConfirmed, DowngradeRefused."""
        slot = self.spare(running)
        image = self.verify(slot)
        floor = self._floor()
        if image.version <= running.image.version or image.security < floor:
            raise DowngradeRefused(
                f"version {image.version} with security counter {image.security}: version "
                f"{running.image.version} runs, and the counter must be {floor} or more"
            )
        slot.log.request(image.digest, image.security)
        return image

    def confirm(self, running: Boot) -> None:
        """The running image works. Raises LogFull where that cannot be noted: it will be reverted.

        Two records are written, the second at the next call: an app calls it at every start. If the power was
        cut while the first was programmed, it may read well now and not at the next boot.
        """
        log, image = running.slot.log, running.image
        confirmations = log.status(image.digest).confirmations
        if confirmations < 2:
            try:
                log.append(Event.CONFIRMED, image.digest, image.security)
            except LogFull:
                if not confirmations:
                    raise

    def _floor(self) -> int:
        return max(slot.log.security() for slot in self.slots)

    def _try(self, boot: Boot, confirmed: Boot | None) -> bool:
        log, image = boot.slot.log, boot.image
        newer = confirmed is None or image.version > confirmed.image.version
        with suppress(LogFull):  # then it is not tried
            if newer and log.status(image.digest).tries < self._tries:
                log.append(Event.TRIED, image.digest, image.security)
                return True
            log.append(Event.REFUSED, image.digest, image.security)
        return False
