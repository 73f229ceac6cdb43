"""Simulated devices, as many as the machine carries, against a real broker.

mix = profiles.find("mixed")
orders = plan(2000, mix, links.find("lte-m"), stream="fw", ramp=10)
report = run(Broker.parse("mqtt://127.0.0.1:1883"), orders)
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chunker.topics import topic
from firmware_sim.fleet.broker import Broker
from firmware_sim.fleet.device import Device
from firmware_sim.fleet.loop import MOST_DEVICES, Fleet, FleetError, check
from firmware_sim.fleet.order import Order, Site, State
from firmware_sim.fleet.profiles import DeviceProfile, Mix
from firmware_sim.fleet.report import DeviceResult, Outcome, Report, with_disagreements
from firmware_sim.fleet.store import FleetStore
from firmware_sim.links.model import LinkProfile, Seed
from firmware_sim.links.profiles import find


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
    kinds = shares(devices, mix)
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
    check([order.thing for order in orders])
    first = orders[0]
    broker.probe(first.thing, [topic(first.thing, first.stream, "data", first.profile.encoding)])
    fleet = _Fleet(broker, orders, seed, progress)
    cost = fleet.run(folder)
    return Report(
        seed=seed,
        seconds=cost.seconds,
        cpu_seconds=cost.cpu_seconds,
        late_mean=cost.late_mean,
        late_max=cost.late_max,
        memory_before=cost.memory_before,
        memory_peak=cost.memory_peak,
        devices=with_disagreements(fleet.results[order.thing] for order in orders),
    )


class _Fleet(Fleet):
    """A run."""

    def __init__(
        self,
        broker: Broker,
        orders: Sequence[Order],
        seed: Seed,
        progress: Callable[[Snapshot], object] | None,
    ) -> None:
        super().__init__(broker, seed)
        self.results: dict[str, DeviceResult] = {}
        self._orders, self._progress = orders, progress
        self._devices: list[Device] = []

    def _begin(self, site: Site, store: FleetStore) -> None:
        loop = asyncio.get_running_loop()
        self._devices = [Device(order, site, store.region(), self._ended) for order in self._orders]
        for device in self._devices:
            loop.call_later(device.order.start, self._start, device)

    def _start(self, device: Device) -> None:
        if device.state is State.WAITING:
            device.power_on()

    def _ended(self, result: DeviceResult) -> None:
        self.results[result.thing] = result
        if len(self.results) == len(self._orders):
            self._over.set()

    def _stop(self) -> None:
        for device in self._devices:
            device.stop()

    def _look(self) -> None:
        if self._progress:
            self._progress(self._snapshot())

    def _snapshot(self) -> Snapshot:
        results = self.results.values()
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


def shares(devices: int, mix: Mix) -> list[DeviceProfile]:
    """So many devices in the shares of `mix`, rounded by largest remainders."""
    total = sum(mix.values())
    counts = {kind: devices * share // total for kind, share in mix.items()}
    rest = sorted(mix, key=lambda kind: (-(devices * mix[kind] % total), kind.name))
    for kind in rest[: devices - sum(counts.values())]:
        counts[kind] += 1
    return [kind for kind, count in counts.items() for _ in range(count)]
