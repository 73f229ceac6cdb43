"""What a simulated device of an updated fleet is, and what is to happen to it."""

from dataclasses import dataclass
from enum import Enum

from firmware_sim.fleet.profiles import DeviceProfile
from firmware_sim.links.model import LinkProfile


class Moment(Enum):
    """When the power can fail, beside the times that a device's profile has for it."""

    LOADING = "loading"
    """While the image is written, at a place that chance picks."""
    REQUESTED = "requested"
    """After the test boot was durably asked for, before the reset."""
    TESTING = "testing"
    """In the test boot, before the new version has said that it works."""
    CONFIRMED = "confirmed"
    """After it was durably confirmed, before that could be reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One device."""

    thing: str
    profile: DeviceProfile
    link: LinkProfile
    start: float = 0.0
    """Seconds after the fleet's start."""
    works: bool = True
    """Whether new versions find in their test boot that they work."""
    cuts: frozenset[Moment] = frozenset()
    """When its power fails, each once."""
