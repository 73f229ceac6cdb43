"""Simulated devices, as many as the machine carries, against a real broker.

mix = profiles.find("mixed")
orders = plan(2000, mix, links.find("lte-m"), stream="fw", ramp=10)
report = run(Broker.parse("mqtt://127.0.0.1:1883"), orders)
"""

import asyncio
import random
import re
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chunker.topics import topic
from firmware_sim.fleet.broker import Broker
from firmware_sim.fleet.device import Device
from firmware_sim.fleet.order import Order, Site, State
from firmware_sim.fleet.profiles import DeviceProfile, Mix
from firmware_sim.fleet.report import DeviceResult, Outcome, Report, with_disagreements
from firmware_sim.fleet.store import FleetStore
from firmware_sim.links.model import LinkProfile, Seed
from firmware_sim.links.profiles import find

MOST_DEVICES = 20_000
SPARE_FILES = 64
"""Open files beside the devices' sockets."""
TICK = 0.05
"""Seconds from one look at the clock to the next."""
PROGRESS_TICKS = 5


class FleetError(Exception):
    """The fleet cannot run as it was asked to; nothing was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a run is. Bytes are of files: `held` in the stores, `size` of all devices' in the end; those
    that are not described yet count as the others on average."""

    seconds: float
    states: Mapping[State, int]
    outcomes: Mapping[Outcome, int]
    held: int
    size: int


def plan(
    devices: int,
    mix: Mix,
    link: LinkProfile,
    *,
    stream: str,
    file_id: int = 0,
    sha256: str | None = None,
    thing_prefix: str = "sim-",
    ramp: float = 0.0,
    patience: float | None = None,
    seed: Seed = 0,
    find_link: Callable[[str], LinkProfile] = find,
) -> list[Order]:
    """Orders for so many devices, 1 to MOST_DEVICES, of which the kinds of `mix` have their shares.

    They start evenly spread over `ramp` seconds; which of them is of which kind follows from `seed`.
    `patience`: seconds, instead of the profiles'. `find_link`: for profiles that name their own.
    FleetError; ProfileError where a link is not known, or patience is out of its bounds.
    """
    if not 1 <= devices <= MOST_DEVICES:
        raise FleetError(f"devices is {devices}; it must be from 1 to {MOST_DEVICES}")
    if not re.fullmatch(r"[a-zA-Z0-9:_-]{0,120}", thing_prefix):
        raise FleetError(f"thing_prefix is {thing_prefix!r}; it must be at most 120 of a-z A-Z 0-9 : _ -")
    if not 0 <= ramp <= 86400:
        raise FleetError(f"ramp is {ramp:g} s; it must be from 0 to 86400 s")
    if patience is not None:
        mix = {replace(kind, patience=patience): share for kind, share in mix.items()}
    links = {kind: find_link(kind.link) if kind.link else link for kind in mix}
    kinds = _shares(devices, mix)
    random.Random(f"{seed} kinds").shuffle(kinds)
    width = len(str(devices - 1))
    return [
        Order(
            thing=f"{thing_prefix}{number:0{width}}",
            stream=stream,
            file_id=file_id,
            sha256=sha256,
            profile=kind,
            link=links[kind],
            start=ramp * number / devices,
        )
        for number, kind in enumerate(kinds)
    ]


def run(
    broker: Broker,
    orders: Sequence[Order],
    *,
    seed: Seed = 0,
    progress: Callable[[Snapshot], object] | None = None,
    folder: Path | None = None,
) -> Report:
    """Runs them all to their ends, in the main thread; the first SIGINT stops those that have not ended.

    What is left to chance follows from `seed` and the thing; the network does what it does. `folder`: for
    what is downloaded, all of it at once. BrokerUnreachable and SubscriptionRefused where the first device is
    not let in; FleetError where fewer files may be open than there are devices, or two are the same thing.
    """
    if len(orders) > MOST_DEVICES or len({order.thing for order in orders}) < len(orders) or not orders:
        raise FleetError(
            f"{len(orders)} orders; there must be 1 to {MOST_DEVICES}, each for a thing of its own"
        )
    _allow_open_files(len(orders) + SPARE_FILES)
    first = orders[0]
    broker.probe(first.thing, [topic(first.thing, first.stream, "data", first.profile.encoding)])
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_Fleet(broker, orders, seed, progress).run(folder))


class _Fleet:
    """A run."""

    def __init__(
        self,
        broker: Broker,
        orders: Sequence[Order],
        seed: Seed,
        progress: Callable[[Snapshot], object] | None,
    ) -> None:
        self._broker, self._orders, self._seed = broker, orders, seed
        self._progress = progress
        self._devices: list[Device] = []
        self._results: dict[str, DeviceResult] = {}
        self._ticks, self._late, self._latest = 0, 0.0, 0.0
        self._failure: BaseException | None = None

    async def run(self, folder: Path | None) -> Report:
        """To the end of all devices."""
        loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        loop.set_exception_handler(self._broken)
        before, cpu = _memory("VmRSS"), time.process_time()
        store = FleetStore(folder)
        with ThreadPoolExecutor(1, "store-checker") as checker:
            try:
                self._began = time.monotonic()
                addresses = self._broker.addresses()
                site = Site(
                    broker=self._broker,
                    addresses=addresses,
                    seed=self._seed,
                    checker=checker,
                    began=self._began,
                    ended=self._device_ended,
                )
                self._devices = [Device(order, site, store.region()) for order in self._orders]
                for device in self._devices:
                    loop.call_later(device.order.start, self._start, device)
                loop.add_signal_handler(signal.SIGINT, self._stop)
                ticking = loop.create_task(self._tick())
                ending = loop.create_task(self._ended.wait())
                await asyncio.wait({ending, ticking}, return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
                if not ticking.cancel():
                    ticking.result()  # it does not end by itself: `progress` has raised
                if self._progress:
                    self._progress(self._snapshot())
            finally:
                self._stop()
                loop.remove_signal_handler(signal.SIGINT)
                # A check that reads while the file is closed would read nobody knows what.
                checker.shutdown(cancel_futures=True)
                store.close()
        if self._failure is not None:
            raise self._failure
        return Report(
            seed=self._seed,
            seconds=time.monotonic() - self._began,
            cpu_seconds=time.process_time() - cpu,
            late_mean=self._late / max(1, self._ticks),
            late_max=self._latest,
            memory_before=before,
            memory_peak=_memory("VmHWM"),
            devices=with_disagreements(self._results[order.thing] for order in self._orders),
        )

    def _start(self, device: Device) -> None:
        if device.state is State.WAITING:
            device.power_on()

    def _device_ended(self, result: DeviceResult) -> None:
        self._results[result.thing] = result
        if len(self._results) == len(self._orders):
            self._ended.set()

    def _stop(self) -> None:
        for device in self._devices:
            device.stop()

    def _broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A bug of ours: a device that hangs for it would only hide it.
        self._failure = self._failure or context.get("exception") or RuntimeError(context["message"])
        self._ended.set()

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
            if self._progress and self._ticks % PROGRESS_TICKS == 0:
                self._progress(self._snapshot())

    def _snapshot(self) -> Snapshot:
        results = self._results.values()
        sizes = [one.size for one in results if one.size]
        sizes += [device.size for device in self._devices if device.size]
        done = sum(one.size for one in results if one.outcome is Outcome.DONE)
        return Snapshot(
            seconds=time.monotonic() - self._began,
            states=Counter(device.state for device in self._devices),
            outcomes=Counter(one.outcome for one in results),
            held=done + sum(device.held for device in self._devices),
            size=sum(sizes) * len(self._devices) // max(1, len(sizes)),
        )


def _shares(devices: int, mix: Mix) -> list[DeviceProfile]:
    """So many devices in the shares of `mix`, rounded by largest remainders."""
    total = sum(mix.values())
    counts = {kind: devices * share // total for kind, share in mix.items()}
    rest = sorted(mix, key=lambda kind: (-(devices * mix[kind] % total), kind.name))
    for kind in rest[: devices - sum(counts.values())]:
        counts[kind] += 1
    return [kind for kind, count in counts.items() for _ in range(count)]


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
