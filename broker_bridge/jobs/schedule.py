"""When a job rolls out (`schedulingConfig`): from a start, to an end, within maintenance windows. In UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from broker_bridge.jobs.cron import Cron
from broker_bridge.jobs.errors import InvalidJob

LEAST_AHEAD = timedelta(minutes=30)
"""How far ahead a start or an end must be, and how far apart they must be (AWS)."""
MAX_START_AHEAD = timedelta(days=365)
MAX_END_AHEAD = timedelta(days=2 * 365)
SHOWN_WINDOWS = 7
"""Coming maintenance windows that DescribeJob shows (AWS)."""

_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(\.[0-9]{1,6})?(Z|[+-].{5})?"
)


class EndBehavior(StrEnum):
    """What becomes of a job at its `endTime`. None of them takes up further things."""

    STOP_ROLLOUT = "STOP_ROLLOUT"
    """Executions that were queued go on."""
    CANCEL = "CANCEL"
    """The job is canceled, and with it executions that are queued."""
    FORCE_CANCEL = "FORCE_CANCEL"
    """Also those in progress."""


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window: begins whenever `cron` comes, and lasts `length`."""

    cron: Cron
    length: timedelta


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job's schedule. The empty one: at once, for ever."""

    start: datetime | None = None
    end: datetime | None = None
    at_end: EndBehavior = EndBehavior.STOP_ROLLOUT
    windows: tuple[Window, ...] = ()

    def opens_at(self, now: datetime) -> datetime | None:
        """When a rollout may go on: `now` itself if it may, None if never again.

        The end is not looked at: it changes the job's state (`ends_at` tells when).
        """
        begin = now if self.start is None else max(now, self.start)
        if not self.windows:
            return begin
        return min((at for window in self.windows if (at := _open(window, begin)) is not None), default=None)

    def next_windows(self, now: datetime) -> list[datetime]:
        """The beginnings of the next maintenance windows, at most SHOWN_WINDOWS."""
        found: list[datetime] = []
        at: datetime | None = now if self.start is None else max(now, self.start)
        while at is not None and len(found) < SHOWN_WINDOWS:
            comes = [begin for window in self.windows if (begin := window.cron.after(at)) is not None]
            at = min(comes, default=None)
            if at is None or (self.end is not None and at >= self.end):
                break
            found.append(at)
        return found


def _open(window: Window, moment: datetime) -> datetime | None:
    begin = window.cron.after(moment - window.length)
    return begin and max(begin, moment)


def parse_moment(field: str, text: str) -> datetime:
    """`YYYY-MM-DD HH:MM` (a `T` between, seconds and a zone are taken too; without one: UTC). InvalidJob."""
    if _MOMENT.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    raise InvalidJob(f"{field}: {text[:64]!r} is not a time of the form YYYY-MM-DD HH:MM")


def check_ahead(schedule: Schedule, now: datetime) -> None:
    """Returns if a job may be given that schedule now: AWS's bounds. InvalidJob."""
    start, end = schedule.start, schedule.end
    if start is not None and not now + LEAST_AHEAD <= start <= now + MAX_START_AHEAD:
        raise InvalidJob("schedulingConfig.startTime: it must be from 30 minutes to a year ahead")
    if end is None:
        return
    if not now + LEAST_AHEAD <= end <= now + MAX_END_AHEAD:
        raise InvalidJob("schedulingConfig.endTime: it must be from 30 minutes to two years ahead")
    if start is not None and end < start + LEAST_AHEAD:
        raise InvalidJob("schedulingConfig.endTime: it must be at least 30 minutes after startTime")
