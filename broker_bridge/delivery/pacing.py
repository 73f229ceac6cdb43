"""Which pace holds for a thing that reads a stream, and when it lets the next blocks through. No I/O."""

from collections.abc import Sequence
from functools import lru_cache

from broker_bridge.delivery.patterns import any_of
from broker_bridge.pace import TURN_SECONDS, Pace
from broker_bridge.registry.streams import Stream
from broker_bridge.settings import PaceRule

LATE_SECONDS = 0.25
"""Lateness that is made up for: a rate holds although timers are late and others have their turns."""
PEAK = 0.75
"""Meanwhile blocks follow each other after this part of the time that they take up, and never sooner: who was
late does not burst. Turns far shorter than TURN_SECONDS may do so together within it, since clocks and timers
count in milliseconds."""


class Paces:
    """The settings' `pace`, of which the first entry that matches counts, and the streams' own (tags).

    Where both set one, both are kept to.
    """

    def __init__(self, rules: Sequence[PaceRule]) -> None:
        self._rules = [
            (any_of(rule.streams), any_of(rule.things), Pace(rule.bytes_per_second, rule.gap))
            for rule in rules
        ]
        self._ruled = lru_cache(maxsize=65536)(self._rule)

    def of(self, thing: str, stream: Stream) -> Pace | None:
        """The pace of `stream` for `thing`; None: as fast as it goes."""
        if not self._rules:
            return stream.pace
        ruled = self._ruled(thing, stream.stream_id)
        if ruled is None or stream.pace is None:
            return ruled or stream.pace
        return ruled.slower(stream.pace)

    def _rule(self, thing: str, stream_id: str) -> Pace | None:
        for streams, things, pace in self._rules:
            if streams.match(stream_id) and things.match(thing):
                return pace if pace != Pace() else None
        return None


class Meter:
    """Says when more may be written. A token bucket at the rate, and a shallow one at its peak."""

    __slots__ = ("_paid", "_peak", "due")

    def __init__(self, now: float) -> None:
        self.due = self._paid = self._peak = now

    def spend(self, seconds: float, now: float) -> None:
        """What takes up `seconds` was written at `now`, which is not before `due`."""
        self._paid = max(self._paid, now - LATE_SECONDS) + seconds
        within = max(0.0, TURN_SECONDS - seconds)
        self._peak = max(self._peak, now - within * PEAK) + seconds * PEAK
        self.due = max(self._paid, self._peak)

    def rest(self, now: float) -> None:
        """Until `now` there was nothing to write: that was no lateness."""
        self._paid = max(self._paid, now)
