"""What a simulated device is told, and what it is doing."""

from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum

from firmware_sim.fleet.broker import Address, Broker
from firmware_sim.fleet.profiles import DeviceProfile
from firmware_sim.links.model import LinkProfile, Seed


class State(Enum):
    """What a device is doing."""

    WAITING = "waiting"
    """For its start."""
    CONNECTING = "connecting"
    DOWNLOADING = "downloading"
    OFF = "off"
    """Without power."""
    CHECKING = "checking"
    """What its store holds, once the flash has taken the last blocks."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one device is, and what it is to download."""

    thing: str
    stream: str
    file_id: int = 0
    sha256: str | None = None
    """Hexadecimal, where it is known."""
    profile: DeviceProfile
    link: LinkProfile
    start: float = 0.0
    """Seconds after the fleet's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all devices of a run have in common; none of them changes it."""

    broker: Broker
    addresses: list[Address]
    seed: Seed
    checker: Executor
    """Where stores are read back."""
    began: float
    """When the fleet started, on `time.monotonic`."""
