"""What a link does to messages, without I/O and without a clock of its own.

A link has two ways, up (device to broker) and down. Each is a wire of some bytes per second on which messages
stand in line, followed by a delay: a message that is lost or comes twice has used the wire all the same. Its
caller says what time it is, in seconds from any origin, and is told when messages arrive.

MQTT runs on TCP, so a link delays what is in a session but does not lose it; what is lost, comes twice or out
of order in practice is QoS 0, between queues of brokers and bridges. `droppable` says which messages these
are. Loss that TCP repairs is delay: jitter and stalls.
"""

import math
import random
from dataclasses import dataclass

LONGEST_MS = 60_000.0  # of a delay: beyond a minute every keep-alive has given the connection up
LONGEST_S = 1e9  # between two stalls or disconnects
QUEUES = (1024, 1 << 30)

Seed = int | str
"""The same seed does the same again, on every machine."""


class ProfileError(ValueError):
    """A profile that cannot be: the message names the field, its value and the bound."""


def _within(field: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:  # so written that not-a-number is refused
        raise ProfileError(f"{field} is {value:.10g}{unit}; it must be from {low:g} to {high:.10g}{unit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of a link. Raises ProfileError where a field is out of its range."""

    rate: float = math.inf
    """Bytes of MQTT packets in a second, 1 or more; infinite: no limit."""
    delay: float = 0.0
    """Milliseconds from a message's last byte on the wire to its arrival, 0 to 60,000."""
    jitter: float = 0.0
    """Up to so many milliseconds more, evenly spread, 0 to 60,000. It does not change the order."""
    loss: float = 0.0
    """Probability with which a droppable message is lost, 0 to 1."""
    duplicate: float = 0.0
    """Probability with which a droppable message that is not lost comes twice, 0 to 1."""
    reorder: float = 0.0
    """Probability with which a droppable message is held back, so that later ones overtake it, 0 to 1."""
    reorder_by: float = 50.0
    """Milliseconds for which it is held back, 0 to 60,000."""

    def __post_init__(self) -> None:
        _within("rate", self.rate, 1, math.inf, " byte/s")
        for field in ("delay", "jitter", "reorder_by"):
            _within(field, getattr(self, field), 0, LONGEST_MS, " ms")
        for field in ("loss", "duplicate", "reorder"):
            _within(field, getattr(self, field), 0, 1, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfile:
    """A kind of link. Raises ProfileError where a field is out of its range."""

    name: str
    up: Way = Way()
    """From the device to the broker."""
    down: Way = Way()
    """From the broker to the device."""
    stall_every: float = 0.0
    """Mean seconds from the end of a stall to the next; 0: none. In a stall neither way sends anything."""
    stall_for: float = 0.0
    """Seconds that a stall lasts, 0 to 3,600."""
    disconnect_every: float = 0.0
    """Mean seconds that a connection lives before it is cut; 0: it is not."""
    queue: int = 256 * 1024
    """Bytes of messages that one way of a connection holds at most, in line and under way, 1 KiB to 1 GiB;
    then its sender is read no further, as with a full TCP window. One message alone may be larger."""

    def __post_init__(self) -> None:
        _within("stall_every", self.stall_every, 0, LONGEST_S, " s")
        _within("stall_for", self.stall_for, 0, 3600, " s")
        _within("disconnect_every", self.disconnect_every, 0, LONGEST_S, " s")
        _within("queue", self.queue, *QUEUES, " bytes")
        if (self.stall_every > 0) != (self.stall_for > 0):
            raise ProfileError(
                f"stall_every is {self.stall_every:g} s and stall_for {self.stall_for:g} s;"
                " both must be 0, or neither"
            )

    @property
    def round_trip(self) -> float:
        """Milliseconds there and back of a message that waits for nothing, jitter at its mean."""
        return self.up.delay + self.down.delay + (self.up.jitter + self.down.jitter) / 2


class _Stalls:
    """When the link stands still, from `start` on; the same for both ways, since both take the same seed."""

    __slots__ = ("_begin", "_end", "_every", "_for", "_random")

    def __init__(self, every: float, seconds: float, seed: Seed, start: float) -> None:
        self._every = every
        self._for = seconds
        self._random = random.Random(f"{seed} stalls")
        self._end = start
        self._next()

    def _next(self) -> None:
        self._begin = self._end + self._random.expovariate(1 / self._every)
        self._end = self._begin + self._for

    def finish(self, at: float, work: float) -> float:
        """When `work` seconds on the wire, begun at `at`, are done. `at` never goes back."""
        while True:
            while self._end <= at:
                self._next()
            if at < self._begin:
                if at + work <= self._begin:
                    return at + work
                work -= self._begin - at
            at = self._end


class Direction:
    """One way of one connection: messages in line for its wire, and when they arrive.

    What becomes of the n-th droppable message depends on the seed alone, not on when it is sent nor on what
    else is: chances and jitter are drawn apart.
    """

    __slots__ = (
        "_chance",
        "_delay",
        "_duplicate",
        "_free",
        "_hold",
        "_jitter",
        "_last",
        "_loss",
        "_more",
        "_pace",
        "_reorder",
        "_stalls",
        "bytes",
        "duplicated",
        "lost",
        "messages",
        "reordered",
    )

    def __init__(self, way: Way, seed: Seed = 0, stalls: _Stalls | None = None) -> None:
        self.messages = 0
        """Sent, those that were lost too; with `bytes`."""
        self.bytes = 0
        self.lost = 0
        self.duplicated = 0
        self.reordered = 0
        """Held back, whether or not another one was there to overtake."""
        self._pace = 1 / way.rate  # seconds a byte
        self._delay = way.delay / 1000
        self._jitter = way.jitter / 1000
        self._loss = way.loss
        self._duplicate = way.duplicate
        self._reorder = way.reorder
        self._hold = way.reorder_by / 1000
        # Only where they are needed: a generator takes 2.5 KB, and a fleet has thousands of links.
        chances = way.loss or way.duplicate or way.reorder
        self._chance = random.Random(f"{seed} chance").random if chances else None
        self._more = random.Random(f"{seed} jitter").random if way.jitter else None
        self._stalls = stalls
        self._free = -math.inf
        self._last = -math.inf  # arrival of what is not held back

    @property
    def free(self) -> float:
        """When the wire is free again: the last byte of all that was sent has left. Seconds."""
        return self._free

    def send(self, now: float, size: int, *, droppable: bool) -> list[float]:
        """Puts a message of `size` bytes in line at `now`; returns when it arrives, in seconds.

        Empty: it is lost. Two, in ascending order: it comes twice. Messages that are not `droppable` arrive
        once and in the order in which they were sent, and so do the others unless a chance strikes.
        """
        self.messages += 1
        self.bytes += size
        arrival = self._sent(now, size)
        chance = self._chance
        if chance is None or not droppable:
            self._last = arrival
            return [arrival]
        if chance() < self._loss:
            self.lost += 1
            return []
        if chance() < self._reorder:
            self.reordered += 1
            arrivals = [arrival + self._hold]
        else:
            self._last = arrival
            arrivals = [arrival]
        if chance() < self._duplicate:
            self.duplicated += 1
            self._last = self._sent(now, size)
            arrivals.append(self._last)
            arrivals.sort()
        return arrivals

    def _sent(self, now: float, size: int) -> float:
        begin = now if now > self._free else self._free
        work = size * self._pace
        self._free = begin + work if self._stalls is None else self._stalls.finish(begin, work)
        arrival = self._free + self._delay
        if self._more is not None:
            arrival += self._more() * self._jitter
        return arrival if arrival > self._last else self._last


class Link:
    """Both ways of one connection.

    `seed` and `connection`, the number of the connection, decide everything that is left to chance; `start`
    is when it is made, in seconds of the caller's clock. `ends`: when it is cut, infinite where never.
    """

    __slots__ = ("down", "ends", "profile", "up")

    def __init__(self, profile: LinkProfile, seed: Seed = 0, connection: int = 0, start: float = 0.0) -> None:
        self.profile = profile
        own = f"{seed} {connection}"
        self.up = Direction(profile.up, f"{own} up", _stalls(profile, own, start))
        self.down = Direction(profile.down, f"{own} down", _stalls(profile, own, start))
        self.ends = math.inf
        if profile.disconnect_every:
            self.ends = start + random.Random(f"{own} ends").expovariate(1 / profile.disconnect_every)


def _stalls(profile: LinkProfile, seed: Seed, start: float) -> _Stalls | None:
    return _Stalls(profile.stall_every, profile.stall_for, seed, start) if profile.stall_every else None
