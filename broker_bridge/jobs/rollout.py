"""How fast a job reaches its things: `maximumPerMinute` and the exponential rate.

No minute, wherever it begins, sees more than the rate. Within it things are spread evenly, in steps of at
least a second, so that a fleet does not begin to download all at once. Everything follows from what the
registry keeps (what was rolled out in the last minute, how many things in all), so a service that was killed
goes on as if nothing had been.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_EXPONENTIAL = 1000
"""Things a minute that an exponential rate without `maximumPerMinute` grows to (AWS's default)."""
CATCH_UP = 5
"""Steps that a late engine makes up for at once, at most."""

MINUTE = timedelta(minutes=1)

Recent = tuple[tuple[datetime, int], ...]
"""When how many things were reached, oldest first, within the last minute."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """`exponentialRate`: `base` things a minute, times `factor` at each step of things reached."""

    base: int
    factor: float
    notified: int | None
    succeeded: int | None
    """The steps, in things; at least one of both. With both, whichever is further."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """`jobExecutionsRolloutConfig`. Neither: as fast as the service can."""

    maximum: int | None = None
    exponential: Exponential | None = None

    def per_minute(self, notified: int, succeeded: int) -> int | None:
        """Things a minute after so many were notified and succeeded; None for no limit."""
        if self.exponential is None:
            return self.maximum
        cap = MAX_EXPONENTIAL if self.maximum is None else self.maximum
        steps = max(
            0 if self.exponential.notified is None else notified // self.exponential.notified,
            0 if self.exponential.succeeded is None else succeeded // self.exponential.succeeded,
        )
        rate = float(self.exponential.base)
        # A power of a number of steps that has no bound would not fit a float.
        while steps and rate < cap:
            rate *= self.exponential.factor
            steps -= 1
        return min(cap, int(rate))


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, and when to look again."""

    count: int
    again_at: datetime


def plan(rate: int | None, recent: Recent, waiting: int, now: datetime, most: int) -> Step:
    """How many of `waiting` (>= 1) things may be reached now: at most `most`, and no more than the rate.

    `recent` is what was reached before, as `kept` left it.
    """
    if rate is None:
        return Step(min(waiting, most), now)
    count = -(-rate // 60)
    beat = MINUTE * count / rate
    if recent:
        last = recent[-1][0]
        if now < last + beat:
            return Step(0, last + beat)
        count *= min(CATCH_UP, (now - last) // beat)
    room = rate - sum(number for _, number in recent)
    if room <= 0:
        return Step(0, recent[0][0] + MINUTE)
    return Step(min(count, room, waiting, most), now + beat)


def kept(recent: Sequence[tuple[datetime, int]], now: datetime) -> Recent:
    """What of `recent` still counts. A clock that was set back must not hold a rollout up."""
    return tuple((min(at, now), count) for at, count in recent if at > now - MINUTE)
