"""A run of a fleet: one event loop with all its devices in it, and how far it is behind its own clock."""

import asyncio
import resource
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_sim.fleet.broker import Broker
from firmware_sim.fleet.order import Site
from firmware_sim.fleet.store import FleetStore
from firmware_sim.links.model import Seed

MOST_DEVICES = 20_000
SPARE_FILES = 64
"""Open files beside the devices' sockets."""
TICK = 0.05
"""Seconds from one look at the clock to the next."""
LOOK_TICKS = 5
"""From one look at the devices to the next."""


class FleetError(Exception):
    """The fleet cannot run as it was asked to; nothing was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run took, of this process, which is all devices and their links."""

    seconds: float
    cpu_seconds: float
    late_mean: float
    """Seconds by which this process was behind its own clock, on average: above some hundredths it is the
    machine that is measured, and no longer the devices."""
    late_max: float
    memory_before: int
    """Resident bytes of this process before the first device was made; 0 where the system does not say."""
    memory_peak: int
    """The most there ever were."""


def check(things: Sequence[str]) -> None:
    """FleetError where these cannot be a fleet: two are the same, or too few files may be open for them."""
    if not 1 <= len(things) <= MOST_DEVICES or len(set(things)) < len(things):
        raise FleetError(
            f"{len(things)} orders; there must be 1 to {MOST_DEVICES}, each for a thing of its own"
        )
    _allow_open_files(len(things) + SPARE_FILES)


class Fleet:
    """A run. Whoever derives makes the devices, looks at them, and sets `over` when it is."""

    def __init__(self, broker: Broker, seed: Seed) -> None:
        self._broker, self._seed = broker, seed
        self._ticks, self._late, self._latest = 0, 0.0, 0.0
        self._failure: BaseException | None = None

    def _begin(self, site: Site, store: FleetStore) -> None:
        """Makes the devices, and has each start at its time."""
        raise NotImplementedError

    def _look(self) -> None:
        """Now and then, and in the end."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Ends the devices that have not ended."""
        raise NotImplementedError

    def _interrupt(self) -> None:
        """SIGINT."""
        self._stop()

    async def _finish(self) -> None:
        """After the last look, while the store is still there."""

    def run(self, folder: Path | None) -> Cost:
        """To its end, in the main thread; the first SIGINT stops the devices."""
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(self._run(folder))

    async def _run(self, folder: Path | None) -> Cost:
        loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        loop.set_exception_handler(self._broken)
        before, cpu = _memory("VmRSS"), time.process_time()
        store = FleetStore(folder)
        with ThreadPoolExecutor(1, "store-checker") as checker:
            try:
                self._began = time.monotonic()
                self._begin(
                    Site(
                        broker=self._broker,
                        addresses=self._broker.addresses(),
                        seed=self._seed,
                        checker=checker,
                        began=self._began,
                    ),
                    store,
                )
                loop.add_signal_handler(signal.SIGINT, self._interrupt)
                ticking = loop.create_task(self._tick())
                ending = loop.create_task(self._over.wait())
                await asyncio.wait({ending, ticking}, return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
                if not ticking.cancel():
                    ticking.result()  # it does not end by itself: `_look` has raised
                if self._failure is None:
                    self._look()
                    await self._finish()
            finally:
                self._stop()
                loop.remove_signal_handler(signal.SIGINT)
                # A check that reads while the file is closed would read nobody knows what.
                checker.shutdown(cancel_futures=True)
                store.close()
        if self._failure is not None:
            raise self._failure
        return Cost(
            seconds=time.monotonic() - self._began,
            cpu_seconds=time.process_time() - cpu,
            late_mean=self._late / max(1, self._ticks),
            late_max=self._latest,
            memory_before=before,
            memory_peak=_memory("VmHWM"),
        )

    def _broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A bug of ours: a device that hangs for it would only hide it.
        self._failure = self._failure or context.get("exception") or RuntimeError(context["message"])
        self._over.set()

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            late = max(0.0, time.monotonic() - due)
            self._ticks, self._late, self._latest = (
                self._ticks + 1,
                self._late + late,
                max(self._latest, late),
            )
            if self._ticks % LOOK_TICKS == 0:
                self._look()


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and count > hard:
        raise FleetError(
            f"{count - SPARE_FILES} devices need {count} open files, and the hard limit is {hard}: raise it "
            f"(ulimit -Hn), or simulate {max(0, hard - SPARE_FILES)} devices at most"
        )
    if soft != resource.RLIM_INFINITY and count > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _memory(field: str) -> int:
    """Resident bytes of this process as Linux tells: VmRSS now, VmHWM at most. 0 elsewhere."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop
