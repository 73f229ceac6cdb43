"""Simulated devices that take updates, as many as the machine carries, against a real broker and service.

    orders = plan(1000, profiles.find("mixed"), links.find("lte-m"), failing=0.03, cuts=0.05)
    report = run(Broker.parse("mqtt://127.0.0.1:1883"), orders, OneKey(public_key), over=job_has_ended)

The things have to be known to the service, and what they are told to update to is its affair.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_sim.fleet.broker import Broker
from firmware_sim.fleet.loop import MOST_DEVICES, Fleet, FleetError, check
from firmware_sim.fleet.order import Site
from firmware_sim.fleet.profiles import Mix
from firmware_sim.fleet.run import shares
from firmware_sim.fleet.store import FleetStore
from firmware_sim.links.model import LinkProfile, Seed
from firmware_sim.links.profiles import find
from firmware_sim.ota_fleet.device import Device, Keys
from firmware_sim.ota_fleet.order import Moment, Order
from firmware_sim.ota_fleet.report import DeviceResult, Phase, Report
from firmware_sim.ota_fleet.slots import FACTORY, Slots

SETTLING = 60.0
"""Seconds that devices have to come to an end after `over`; those that have not are told as they are."""
MOST_SAMPLES = 2000
"""Of the timeline: when there are as many, every second one goes, and from then on half as many are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a run is."""

    seconds: float
    phases: Mapping[Phase, int]
    online: int
    """Devices that have a session and have heard what their next job is."""


def plan(
    devices: int,
    mix: Mix,
    link: LinkProfile,
    *,
    failing: float = 0.0,
    cuts: float = 0.0,
    thing_prefix: str = "sim-",
    ramp: float = 0.0,
    seed: Seed = 0,
    find_link: Callable[[str], LinkProfile] = find,
) -> list[Order]:
    """Orders for so many devices, 1 to MOST_DEVICES, of which the kinds of `mix` have their shares.

    `failing`: the share, 0 to 1, on which no new version works. `cuts`: the share whose power fails, at each
    `Moment`. Both are exact, rounded; who it is follows from `seed`, as what kind a device is. They start
    evenly spread over `ramp` seconds. FleetError; ProfileError where a link is not known.
    """
    if not 1 <= devices <= MOST_DEVICES:
        raise FleetError(f"devices is {devices}; it must be from 1 to {MOST_DEVICES}")
    if not re.fullmatch(r"[a-zA-Z0-9:_-]{0,120}", thing_prefix):
        raise FleetError(f"thing_prefix is {thing_prefix!r}; it must be at most 120 of a-z A-Z 0-9 : _ -")
    for name, value, most, unit in (
        ("ramp", ramp, 86400, " s"),
        ("failing", failing, 1, ""),
        ("power_cuts", cuts, 1, ""),
    ):
        if not 0 <= value <= most:
            raise FleetError(f"{name} is {value:g}{unit}; it must be from 0 to {most}{unit}")
    links = {kind: find_link(kind.link) if kind.link else link for kind in mix}
    kinds = shares(devices, mix)
    random.Random(f"{seed} kinds").shuffle(kinds)
    fails = _some(devices, failing, f"{seed} failing")
    cut = {moment: _some(devices, cuts, f"{seed} {moment.value}") for moment in Moment}
    width = len(str(devices - 1))
    return [
        Order(
            thing=f"{thing_prefix}{number:0{width}}",
            profile=kind,
            link=links[kind],
            start=ramp * number / devices,
            works=number not in fails,
            cuts=frozenset(moment for moment in Moment if number in cut[moment]),
        )
        for number, kind in enumerate(kinds)
    ]


def run(
    broker: Broker,
    orders: Sequence[Order],
    keys: Keys,
    *,
    seed: Seed = 0,
    over: Callable[[], bool] = lambda: False,
    progress: Callable[[Snapshot], object] | None = None,
    folder: Path | None = None,
) -> Report:
    """Runs them all, in the main thread, until `over()` and they have nothing to do, or SIGINT.

    `over` is asked several times a second and has to answer at once. `keys`: of whom devices take images.
    What is left to chance follows from `seed` and the thing; the network does what it does. `folder`: for
    their slots. BrokerUnreachable and SubscriptionRefused where the first device is not let in; FleetError
    where fewer files may be open than there are devices, or two are the same thing.
    """
    check([order.thing for order in orders])
    broker.probe(orders[0].thing, [f"$aws/things/{orders[0].thing}/jobs/notify-next"])
    fleet = _Fleet(broker, orders, keys, seed, over, progress)
    cost = fleet.run(folder)
    return Report(seed=seed, cost=cost, devices=fleet.results, timeline=fleet.timeline)


class _Fleet(Fleet):
    """A run."""

    def __init__(
        self,
        broker: Broker,
        orders: Sequence[Order],
        keys: Keys,
        seed: Seed,
        is_over: Callable[[], bool],
        progress: Callable[[Snapshot], object] | None,
    ) -> None:
        super().__init__(broker, seed)
        self.results: list[DeviceResult] = []
        self.timeline: list[tuple[float, dict[Phase, int]]] = []
        self._orders, self._keys, self._is_over, self._progress = orders, keys, is_over, progress
        self._devices: list[Device] = []
        self._looks, self._each = 0, 1
        self._give_up_at: float | None = None
        self._busy: list[Device] = []  # that have not settled since it was over

    def _begin(self, site: Site, store: FleetStore) -> None:
        loop, self._checker = asyncio.get_running_loop(), site.checker
        for order in self._orders:
            slots = Slots(store, order.cuts, random.Random(f"{self._seed} {order.thing} cuts"))
            device = Device(order, site, slots, self._keys)
            self._devices.append(device)
            loop.call_later(order.start, device.power_on)
        self._look()

    def _interrupt(self) -> None:
        # The last look is taken while they still are what they are.
        self._over.set()

    def _stop(self) -> None:
        for device in self._devices:
            device.stop()

    def _look(self) -> None:
        now = time.monotonic() - self._began
        phases = dict(Counter(device.phase for device in self._devices))
        if self._looks % self._each == 0:
            self.timeline.append((now, phases))
            if len(self.timeline) == MOST_SAMPLES:
                del self.timeline[1::2]
                self._each *= 2
        self._looks += 1
        if self._progress:
            self._progress(
                Snapshot(seconds=now, phases=phases, online=sum(one.online for one in self._devices))
            )
        if self._give_up_at is None and self._is_over():
            self._give_up_at, self._busy = now + SETTLING, self._devices.copy()
        if self._give_up_at is not None:
            # Over bad links they are hardly ever all connected: each has its own moment.
            self._busy = [device for device in self._busy if not device.settled]
            if not self._busy or now >= self._give_up_at:
                self._over.set()

    async def _finish(self) -> None:
        since = self._devices if self._give_up_at is None else self._busy
        busy = {device for device in since if not device.settled}
        self._stop()
        loop = asyncio.get_running_loop()
        for device in self._devices:
            running = device.slots.running
            new = running.version > FACTORY
            sha256 = await loop.run_in_executor(self._checker, running.digest) if new else ""
            self.results.append(device.result(device not in busy, sha256))


def _some(devices: int, share: float, seed: str) -> set[int]:
    """So many of them, by chance."""
    return set(random.Random(seed).sample(range(devices), round(devices * share)))
