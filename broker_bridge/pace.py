"""How fast a thing may be written to, and the tags by which a stream says so.

Counted are bytes of files. More goes over the wire: a header, the topic and some 20 bytes of CBOR with each
block, and a third of the block in JSON (Base64).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from broker_bridge.units import SIZE, parse_size

RATES = (256, 1 << 40)
"""Least and most of `bytes_per_second`."""
GAPS = (0.0, 60.0)
"""Least and most of `gap`, seconds."""
TURN_SECONDS = 0.02
"""A turn carries one block, or what a pace lets through in this time: whichever is more."""
RATE_TAG = "sluice:bytes-per-second"
GAP_TAG = "sluice:block-gap"


@dataclass(frozen=True, slots=True)
class Pace:
    """At most so many file bytes a second (None: any number), and from block to block `gap` seconds."""

    bytes_per_second: int | None = None
    gap: float = 0.0

    @property
    def turn_bytes(self) -> int:
        """File bytes that one turn may carry, if that is more than one block; a gap parts all blocks."""
        if self.gap or self.bytes_per_second is None:
            return 0
        return int(self.bytes_per_second * TURN_SECONDS)

    def seconds(self, blocks: int, size: int) -> float:
        """How much time `blocks` blocks of `size` bytes in all take up: both bounds hold."""
        by_gap = blocks * self.gap
        return by_gap if self.bytes_per_second is None else max(by_gap, size / self.bytes_per_second)

    def slower(self, other: "Pace") -> "Pace":
        """What keeps to both."""
        rates = [rate for rate in (self.bytes_per_second, other.bytes_per_second) if rate is not None]
        return Pace(min(rates, default=None), max(self.gap, other.gap))


def check_tag(key: str, value: str) -> bool:
    """Whether the tag is one of those above. ValueError where it is and says nothing that can be kept to."""
    if key == RATE_TAG:
        _rate(value)
    elif key == GAP_TAG:
        _gap(value)
    return key in (RATE_TAG, GAP_TAG)


def from_tags(tags: Mapping[str, str]) -> Pace | None:
    """The pace that a stream's tags set; None where they set none. ValueError as `check_tag`."""
    rate, gap = tags.get(RATE_TAG), tags.get(GAP_TAG)
    if rate is None and gap is None:
        return None
    return Pace(None if rate is None else _rate(rate), 0.0 if gap is None else _gap(gap))


def _rate(text: str) -> int:
    try:
        rate = parse_size(text)
    except ValueError:
        raise ValueError(f"{RATE_TAG!r} is {text!r}; it must be {SIZE}") from None
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"{RATE_TAG!r} is {text!r}; it must be from {RATES[0]} to {RATES[1]}")
    return rate


def _gap(text: str) -> float:
    try:
        gap = float(text)
    except ValueError:
        gap = math.nan
    if not GAPS[0] <= gap <= GAPS[1]:
        raise ValueError(f"{GAP_TAG!r} is {text!r}; it must be seconds, from {GAPS[0]:g} to {GAPS[1]:g}")
    return gap
