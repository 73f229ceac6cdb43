"""Two slots and a boot loader, as values: what of a device outlives its power.

As `firmware_sim.boot.loader` has it (test, confirm, revert; MCUboot's idea), without its flash: a slot is a
region of the fleet's store. Any file is an image here, one version above the one that runs when it is loaded.
"""

import random
from enum import Enum

from device_client.platform import ImageRefused
from firmware_sim.boot.loader import TRIES
from firmware_sim.fleet.powered import PowerCut
from firmware_sim.fleet.store import FleetStore, Region
from firmware_sim.ota_fleet.order import Moment

MODEL = "sim"
FACTORY = 1 << 24
"""The version that every device begins with: 1.0.0."""
SLOT_BYTES = 1 << 30


class Boot(Enum):
    """What the loader knows of a slot."""

    EMPTY = "empty"
    """Nothing that may be booted."""
    REQUESTED = "requested"
    """On test: booted TRIES times at most."""
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    """It had its test boots and was not confirmed."""


class Slot(Region):
    """One of the two. A sink (`device_client.sinks`) that never overwrites what may be booted."""

    def __init__(self, store: FleetStore) -> None:
        super().__init__(store)
        self.version = 0
        self.boot = Boot.EMPTY
        self.tries = 0
        """Test boots of this image."""
        self.fails_at: float | None = None
        """The share of the next image at which the power fails."""
        self._left = 0  # bytes until it does

    def start(self, size: int) -> None:
        self._check()
        super().start(size)
        self._left = 0 if self.fails_at is None else max(1, round(self.fails_at * size))

    def write(self, offset: int, data: memoryview) -> None:
        self._check()
        super().write(offset, data)
        if self._left:
            self._left -= len(data)
            if self._left <= 0:
                self._left, self.fails_at = 0, None
                raise PowerCut("while it writes")

    def discard(self) -> None:
        self._check()
        super().discard()

    def _check(self) -> None:
        if self.boot is Boot.REQUESTED:
            raise RuntimeError("a device overwrites the image that it has asked a test boot of")
        self.boot = Boot.EMPTY  # the image before the last one is given up


class Slots:
    """`device_client.platform.Platform`: both slots, and what the loader does at each boot.

    `cuts`: when the power fails, each once: PowerCut comes out of the call, which is done then.
    """

    model = MODEL
    head_bytes = 1
    slot_bytes = SLOT_BYTES

    def __init__(self, store: FleetStore, cuts: frozenset[Moment], chance: random.Random) -> None:
        self.running, self.spare = Slot(store), Slot(store)
        self.running.boot, self.running.version = Boot.CONFIRMED, FACTORY
        self.test_boots = 0
        self._cuts = set(cuts)
        if Moment.LOADING in cuts:
            self.spare.fails_at = chance.random()

    def boot(self) -> None:
        """The loader: tries what it was asked to, else runs the newest that was confirmed."""
        both = self.running, self.spare
        for slot in both:
            if slot.boot is Boot.REQUESTED and slot.tries == TRIES:
                slot.boot = Boot.REFUSED
        tried = [slot for slot in both if slot.boot is Boot.REQUESTED]
        confirmed = [slot for slot in both if slot.boot is Boot.CONFIRMED]
        chosen = (tried or sorted(confirmed, key=lambda slot: -slot.version))[0]
        if tried:
            chosen.tries += 1
            self.test_boots += 1
        if chosen is not self.running:
            self.running, self.spare = self.spare, self.running

    def cut(self, moment: Moment) -> None:
        """PowerCut if the power fails at this moment."""
        if moment in self._cuts:
            self._cuts.remove(moment)
            raise PowerCut(moment.value)

    def lose_power(self, noise: random.Random) -> None:
        """What is not durable is lost."""
        for slot in (self.running, self.spare):
            slot.power_cut(noise)

    # --- as the agent sees it

    @property
    def version(self) -> int:
        """Of what runs."""
        return self.running.version

    def testing(self) -> bool:
        return self.running.boot is Boot.REQUESTED

    def refused(self) -> str:
        return "it did not confirm itself" if self.spare.boot is Boot.REFUSED else ""

    def identify(self, head: bytes | bytearray) -> tuple[str, int]:
        return MODEL, self.version + 1

    def sink(self) -> Slot:
        if self.testing():
            raise RuntimeError("a device loads over the version that its test boot falls back to")
        return self.spare

    def request(self) -> None:
        if self.testing():
            raise ImageRefused("what runs is not confirmed: it is on test itself")
        self.spare.boot, self.spare.tries, self.spare.version = Boot.REQUESTED, 0, self.version + 1
        self.cut(Moment.REQUESTED)

    def confirm(self) -> None:
        self.running.boot = Boot.CONFIRMED
        self.cut(Moment.CONFIRMED)

    def revert(self) -> None:
        self.running.boot = Boot.REFUSED

    def reset(self) -> None:
        """Whoever runs the agent sees that it is over."""
