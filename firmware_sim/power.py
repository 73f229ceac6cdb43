"""Cuts the power in every flash operation of a whole update in turn, and looks at what becomes of the device.

    report = sweep(Scenario(block_size=1000, shuffled=True))
    print(report)
    assert report.ok

Each run is an update of its own from the factory on: download, request, test boot, confirmation; the power
goes once at the place that is swept over and then, by chance, `cuts - 1` times more. After every reset
these hold:

    the loader finds something to run, and it is the old image or the new one, byte for byte; the new one only
    where it is genuine
    nothing writes to the image that runs, and nothing does what a flash forbids
    each cut has at most the blocks of one erase sector fetched again
    in the end the new image runs, confirmed; the old one where the new one is bad or does not work
    with `ota`, its job succeeded where the new image runs, and failed where it does not
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from chunker.blocks import block_count
from device_client.errors import DownloadError
from firmware_sim.boot.image import build
from firmware_sim.boot.loader import TRIES, Boot, Loader, NothingToBoot, slots
from firmware_sim.flash import TORN, Flash, FlashError, PowerCut
from firmware_sim.job_update import JobDevice, JobService
from firmware_sim.update import MemoryService, Network, Outcome, UpdatingDevice

MESSAGE = "message"
"""A cut between two messages of the network, beside those of flash.TORN."""

MAX_LIVES = 40
"""Resets after which a run counts as one that does not end."""


class Update(Enum):
    """What is published."""

    GOOD = "good"
    FORGED = "forged"
    """Signed with somebody else's key."""
    ROTTEN = "rotten"
    """One bit of its payload is another than was signed."""
    TRUNCATED = "truncated"
    """Its last bytes are missing."""
    OLDER = "older"
    """Genuine, and of a lower version than the one that runs."""
    SILENT = "silent"
    """Genuine, and it never confirms."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is swept over; sizes in bytes. `lost`: share of messages; `cuts`: most of the power in a run."""

    update: Update = Update.GOOD
    payload: int = 24_000
    block_size: int = 1024
    sector_size: int = 4096
    page_size: int = 256
    write_size: int = 1
    shuffled: bool = False
    lost: float = 0.0
    cuts: int = 2
    seed: int = 0
    ota: bool = False
    """The device has the OTA agent, and the image comes as its job."""

    def __str__(self) -> str:
        how = ", shuffled" if self.shuffled else ""
        how += f", {self.lost:.0%} lost" if self.lost else ""
        writes = f", writes of {self.write_size}" if self.write_size > 1 else ""
        job = ", as a job" if self.ota else ""
        return (
            f"{self.update.value} image of {self.payload} bytes{job}, blocks of {self.block_size}{how}; "
            f"sectors of {self.sector_size}, pages of {self.page_size}{writes}"
        )


@dataclass(slots=True)
class Row:
    """The runs of a sweep whose first cut was of one kind: of flash.TORN, or MESSAGE."""

    kind: str
    runs: int = 0
    cuts: int = 0
    boots: int = 0
    longest: int = 0
    """Most boots in one run."""
    fetched_again: int = 0
    """Most bytes fetched again after one cut."""
    wear: int = 0
    """Most erases of one sector in one run."""

    def add(self, run: "_Run") -> None:
        """Counts a run that has ended."""
        self.runs += 1
        self.cuts += run.cuts
        self.boots += run.boots
        self.longest = max(self.longest, run.boots)
        self.fetched_again = max([self.fetched_again, *run.device.fetched_again])
        self.wear = max(self.wear, *run.flash.wear)


@dataclass(slots=True)
class Report:
    """What a sweep found. `operations`, `messages`: of an update without a cut, all of which were cut at."""

    scenario: Scenario
    operations: int
    messages: int
    bound: int
    """Bytes of the blocks that touch one erase sector: the most that may be fetched again after a cut."""
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What should not have been, with the run in which it was."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def cuts(self) -> int:
        """Of the power, in all runs."""
        return sum(row.cuts for row in self.rows)

    def __str__(self) -> str:
        head = f"{'cut':>8} {'runs':>6} {'cuts':>6} {'boots':>6} {'longest':>7} {'again':>6} {'wear':>5}"
        lines = [
            f"{row.kind:>8} {row.runs:6} {row.cuts:6} {row.boots:6} {row.longest:7} "
            f"{row.fetched_again:6} {row.wear:5}"
            for row in self.rows
        ]
        end = f"{self.cuts} power cuts at {self.operations} flash operations and {self.messages} messages; "
        end += f"at most {self.bound} bytes may be fetched again; {len(self.failures) or 'no'} failures"
        return "\n".join([str(self.scenario), head, *lines, end, *self.failures[:10]])


class Broken(Exception):
    """Something that must hold did not."""


class _Bench:
    """What all runs of a sweep have in common: keys, images, and the bound."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        rng = random.Random(scenario.seed)
        key, other = (ec.derive_private_key(rng.getrandbits(255) + 1, ec.SECP256R1()) for _ in range(2))
        self.signer, self.key = key, key.public_key()
        update = scenario.update
        self.old = build(rng.randbytes(scenario.payload), version=2, security=1, key=key)
        self.new = build(
            rng.randbytes(scenario.payload),
            version=1 if update is Update.OLDER else 3,
            security=1,
            key=other if update is Update.FORGED else key,
        )
        if update is Update.ROTTEN:
            middle = len(self.new) // 2
            self.new = self.new[:middle] + bytes([self.new[middle] ^ 1]) + self.new[middle + 1 :]
        elif update is Update.TRUNCATED:
            self.new = self.new[:-100]
        self.bound = _most_in_a_sector(len(self.new), scenario.block_size, scenario.sector_size)
        sector = scenario.sector_size
        self.slot_size = block_count(max(len(self.old), len(self.new)), sector) * sector
        marks = 2 * (block_count(len(self.new), scenario.block_size) + 2 * self.slot_size // sector)
        self.journal_size = 2 * block_count(512 + marks * scenario.write_size, sector) * sector
        self.flash_size = 2 * (self.slot_size + sector + self.journal_size)


class _Run:
    """One update, from the factory to its end. Its first cut is of that kind, at that place, counted from 1.

    Up to there all runs of a bench are the same.
    """

    def __init__(self, bench: _Bench, kind: str = "", place: int = 0) -> None:
        self.bench = bench
        scenario = bench.scenario
        self._kind, self._place = kind, place
        self._chance = random.Random(f"{scenario.seed} {kind} {place}")  # of cuts
        self.flash = Flash(bench.flash_size, scenario.sector_size, scenario.page_size, scenario.write_size)
        places = slots(self.flash, bench.slot_size, bench.journal_size)
        self.loader = Loader(places, bench.key, max(TRIES, scenario.cuts + 1))
        self.loader.install(bench.old)
        self.flash.operations = 0
        self.flash.wear = [0] * len(self.flash.wear)
        self.job = JobService(bench.new, bench.signer) if scenario.ota else None
        service = self.job or MemoryService(bench.new)
        rng = random.Random(scenario.seed)
        self.network = Network(service, rng, self._arrived, shuffled=scenario.shuffled, lost=scenario.lost)
        how: dict[str, Any] = {
            "block_size": scenario.block_size,
            "works": scenario.update is not Update.SILENT,
            "booted": self._booted,
        }
        self.device = (
            JobDevice(self.loader, self.network, self.job, bench.key, **how)
            if self.job
            else UpdatingDevice(self.loader, self.network, 2, **how)
        )
        self.cuts = self.boots = 0
        self.new_ran = False

    def go(self) -> None:
        """To the end. Raises Broken."""
        for _ in range(MAX_LIVES):
            self.flash.power_on()
            self._plan()
            known = len(self.device.fetched_again)
            try:
                outcome = self.device.life()
            except PowerCut:
                self.cuts += 1
                continue
            except (FlashError, NothingToBoot, DownloadError) as error:
                raise Broken(f"{type(error).__name__}: {error}") from error
            finally:
                for again in self.device.fetched_again[known:]:
                    if again > self.bench.bound:
                        raise Broken(f"{again} bytes were fetched again, over {self.bench.bound}")
            if outcome is not Outcome.RESET:
                self._ended(outcome)
                return
        raise Broken(f"no end after {MAX_LIVES} resets")

    def _plan(self) -> None:
        chance, flash = self._chance, self.flash
        if self.cuts == 0 and self._kind in TORN and self._place > flash.operations:
            flash.cut_at(self._place - flash.operations, self._kind, chance.getrandbits(32))
        elif 0 < self.cuts < self.bench.scenario.cuts and chance.randrange(2):
            flash.cut_at(chance.randrange(1, 100), chance.choice(TORN), chance.getrandbits(32))

    def _arrived(self, messages: int) -> None:
        if self._kind == MESSAGE and messages == self._place and not self.cuts:
            self.flash.cut()
            raise PowerCut(f"power cut before message {messages}")

    def _booted(self, boot: Boot) -> None:
        self.boots += 1
        runs = boot.slot.image.read(0, boot.image.size)
        update = self.bench.scenario.update
        may_run = [self.bench.old]
        if update in (Update.GOOD, Update.SILENT):
            may_run.append(self.bench.new)
        if runs not in may_run:
            raise Broken(f"slot {boot.slot.name} runs {len(runs)} bytes that are no genuine image")
        if boot.test != (runs == self.bench.new) and update is Update.SILENT:
            raise Broken("an image that never confirmed runs as if it had")
        self.new_ran = self.new_ran or runs == self.bench.new

    def _ended(self, outcome: Outcome) -> None:
        good = self.bench.scenario.update is Update.GOOD
        if outcome is not (Outcome.CONFIRMED if good else Outcome.REFUSED):
            raise Broken(f"the update ended {outcome.value}")
        if self.job and self.job.status != ("SUCCEEDED" if good else "FAILED"):
            raise Broken(f"the job is {self.job.status}")
        if self.new_ran != (self.bench.scenario.update in (Update.GOOD, Update.SILENT)):
            raise Broken("the new image was never tried, or should not have been")
        self.flash.power_on()
        boot = self.loader.boot()
        if boot.test or boot.slot.image.read(0, boot.image.size) != (
            self.bench.new if good else self.bench.old
        ):
            raise Broken(f"in the end version {boot.image.version} runs, test boot: {boot.test}")


def sweep(
    scenario: Scenario,
    torn: Sequence[str] = TORN,
    progress: Callable[[int, int], object] = lambda _done, _of: None,
) -> Report:
    """Runs the scenario without a cut, and then with one at every place; `progress(runs done, of)`.

    ValueError for a scenario whose sizes do not fit one another. `torn`: of flash.TORN.
    """
    bench = _Bench(scenario)
    whole = _Run(bench)
    try:
        whole.go()
    except Broken as error:  # then there is nothing to sweep
        return Report(scenario, 0, 0, bench.bound, failures=[f"without a cut, seed {scenario.seed}: {error}"])
    report = Report(scenario, whole.flash.operations, whole.network.messages, bench.bound)
    places = [*((kind, report.operations) for kind in torn), (MESSAGE, report.messages)]
    done, total = 0, sum(count for _, count in places)
    for kind, count in places:
        row = Row(kind)
        report.rows.append(row)
        for place in range(1, count + 1):
            run = _Run(bench, kind, place)
            try:
                run.go()
            except Broken as error:
                report.failures.append(f"{kind} {place}, seed {scenario.seed}: {error}")
            row.add(run)
            done += 1
            progress(done, total)
    return report


def _most_in_a_sector(size: int, block_size: int, sector_size: int) -> int:
    most = 0
    for sector in range(0, size, sector_size):
        first = sector // block_size * block_size
        last = block_count(min(size, sector + sector_size), block_size) * block_size
        most = max(most, min(size, last) - first)
    return most
