"""Cron expressions as AWS writes them: `cron(minutes hours day-of-month month day-of-week year)`, in UTC.

Each field takes `*`, numbers, ranges, lists and steps (`*/15`, `8-18/2`); months and days of the week their
English names too, of which Sunday is day 1. `?` is "any" for one of both day fields, and one of them must be
`?` or `*`. AWS's `L`, `W` and `#` are refused.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from broker_bridge.jobs.errors import InvalidJob

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minutes", 0, 59, {}),
    ("hours", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: i for i, name in enumerate(_MONTHS, 1)}),
    ("day of week", 1, 7, {name: i for i, name in enumerate(_DAYS, 1)}),
    ("year", 1970, 2199, {}),
)
_DAY_FIELDS = ("day of month", "day of week")
_HORIZON = timedelta(days=366 * 8 + 1)
"""How far ahead is looked: any expression that comes again at all, on a 29th of February too, does within."""
_ITEM = re.compile(r"(\*|[A-Z0-9]+)(?:-([A-Z0-9]+))?(?:/([0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """InvalidJob: which field is wrong, and what it may be."""
        match = re.fullmatch(r"cron\(\s*(.*?)\s*\)", text)
        fields = match[1].upper().split() if match else []
        if len(fields) != len(_FIELDS):
            raise InvalidJob(f"{text[:64]!r} is not cron(minutes hours day-of-month month day-of-week year)")
        if fields[2] not in ("*", "?") and fields[4] not in ("*", "?"):
            raise InvalidJob(f"{text[:64]!r}: of day of month and day of week one must be '?'")
        sets = [_values(field, *rules) for field, rules in zip(fields, _FIELDS, strict=True)]
        minutes, hours, days, months, weekdays, years = sets
        return cls(tuple(sorted(minutes)), tuple(sorted(hours)), days, months, weekdays, years)

    def after(self, moment: datetime) -> datetime | None:
        """The first time after `moment` (aware) that it comes; None if not within eight years."""
        moment = moment.astimezone(UTC)
        day, last = moment.date(), (moment + _HORIZON).date()
        while day <= last:
            if self._on(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                        if found > moment:
                            return found
            day += timedelta(days=1)
        return None

    def _on(self, day: date) -> bool:
        return (
            day.day in self.days
            and day.month in self.months
            and day.isoweekday() % 7 + 1 in self.weekdays
            and day.year in self.years
        )


def _values(field: str, name: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    if field == "?":
        if name not in _DAY_FIELDS:
            raise InvalidJob(f"the {name} of a cron expression cannot be '?'")
        field = "*"
    found: set[int] = set()
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise InvalidJob(f"the {name} {item[:64]!r} of a cron expression cannot be read")
        first, last, step = match.groups()
        if first == "*":
            start, end = (low, high) if last is None else (None, None)
        else:
            start = _number(first, names)
            # `8/2` begins at 8 and goes on to the end.
            end = _number(last, names) if last is not None else (high if step is not None else start)
        if start is None or end is None or not low <= start <= end <= high or step == "0":
            raise InvalidJob(f"the {name} {item[:64]!r} of a cron expression is not within {low} and {high}")
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int | None:
    return names.get(text) if not text.isdecimal() or len(text) > 4 else int(text)
