"""Rollouts in stages, which AWS's jobs do not have: so many percent of the things first, then more of them.

A job has stages by a tag (`STAGES_TAG`), so that every AWS client can give and change them. A stage reaches
so many percent of the job's things, counted with those of the stages before it. It has passed when enough of
them have SUCCEEDED; then it soaks, and the next one begins. It has failed as soon as enough of them can no
longer succeed. So a thing that is offline holds nothing up that the others decide, and one that is tried
again counts by its last try. Things that were removed, or whose execution was canceled, count nowhere.

For a continuous job the things are those that are known so far: as more come, a stage grows with them until
it has passed.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache

from broker_bridge.jobs.job import Counts, Job, Place

STAGES_TAG = "sluice:stages"
PAUSED_TAG = "sluice:paused"
"""While a job has it, with whatever value, no further things are reached."""
MAX_STAGES = 16
MAX_SOAK = timedelta(days=30)
FORM = "PERCENT@SUCCEEDED:SOAK/…/100, as in '5@95:10m/25@98:1h/100'"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STAGE = re.compile(
    r"(?P<percent>[0-9]{1,3}(?:\.[0-9]{1,3})?)"
    r"(?:@(?P<needed>[0-9]{1,3}(?:\.[0-9]{1,3})?))?"
    r"(?::(?P<soak>[0-9]{1,7})(?P<unit>[smhd]))?"
)
_SAID = re.compile(r"stage (?P<stage>[0-9]+) of (?P<stages>[0-9]+): ")
_TOTAL = re.compile(r" of (?P<total>[0-9]+) things\b")
_UNTIL = re.compile(r"; soaks until (?P<until>\S+Z)")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a plan."""

    percent: Fraction
    """Of the job's things, over 0 to 100: so many are reached when the stage is."""
    needed: Fraction | None
    """Percent of the things reached by then that must have succeeded, over 0 to 100. None: any number will
    do, which is for the last stage alone."""
    soak: timedelta
    """How long nothing further happens after it has passed, 0 to MAX_SOAK."""


Plan = tuple[Stage, ...]


@lru_cache(maxsize=256)
def parse(text: str) -> Plan:
    """The stages that the value of STAGES_TAG stands for. ValueError: which one is wrong, and what it may be.

    `PERCENT[@SUCCEEDED][:SOAK]`, joined by `/`. Percentages rise to 100 and have at most three decimals; soak
    times are a whole number of `s`, `m`, `h` or `d`. All stages but the last need SUCCEEDED, since a stage
    that nothing can fail guards nothing; the last has no soak time, since nothing comes after it.
    """
    parts = text.split("/")
    if len(parts) > MAX_STAGES:
        raise ValueError(f"{STAGES_TAG!r} has {len(parts)} stages; at most {MAX_STAGES} are allowed")
    found: list[Stage] = []
    for number, part in enumerate(parts, 1):
        where = f"{STAGES_TAG!r} is {text!r}, whose stage {number}, {part!r},"
        stage = _stage(part, where)
        before = found[-1].percent if found else Fraction(0)
        last = number == len(parts)
        if not before < stage.percent <= 100:
            raise ValueError(f"{where} must reach over {_shown(before)} to 100 percent")
        if last and stage.percent != 100:
            raise ValueError(f"{where} is the last one and must reach 100 percent")
        if last and stage.soak:
            raise ValueError(
                f"{where} is the last one: nothing comes after it that a soak time could hold up"
            )
        if not last and stage.needed is None:
            raise ValueError(
                f"{where} needs @SUCCEEDED, the percentage that must have succeeded, over 0 to 100"
            )
        found.append(stage)
    return tuple(found)


def _stage(part: str, where: str) -> Stage:
    match = _STAGE.fullmatch(part)
    if match is None:
        raise ValueError(f"{where} is not of the form {FORM}")
    needed = None if match["needed"] is None else Fraction(match["needed"])
    if needed is not None and not 0 < needed <= 100:
        raise ValueError(f"{where} needs {match['needed']} percent succeeded; it must be over 0 to 100")
    seconds = int(match["soak"] or 0) * _UNITS[match["unit"] or "s"]
    if seconds > MAX_SOAK.total_seconds():
        raise ValueError(f"{where} soaks for {match['soak']}{match['unit']}; at most {MAX_SOAK.days}d may be")
    return Stage(Fraction(match["percent"]), needed, timedelta(seconds=seconds))


def check_tag(key: str, value: str) -> bool:
    """Whether the tag is one of those above. ValueError where it is and says nothing that can be done."""
    if key == STAGES_TAG:
        parse(value)
    return key in (STAGES_TAG, PAUSED_TAG)


def of_tags(tags: Mapping[str, str]) -> tuple[str | None, bool]:
    """The stages that a job's tags give it, as text, and whether they pause it."""
    return tags.get(STAGES_TAG), PAUSED_TAG in tags


@dataclass(frozen=True, slots=True)
class View:
    """A rollout in stages at one moment."""

    plan: Sequence[Stage]
    place: Place
    failed: bool
    room: int
    """Things that may be reached now, at most as many as wait."""
    again_at: datetime | None
    """When the soak time ends, where one runs."""
    reach: int
    """Things that the stage reaches, with those of the stages before it."""
    total: int
    needed: int
    """Of `reach`, how many must succeed."""
    bad: int
    """How many ended otherwise, and are not tried again."""


def look(plan: Sequence[Stage], place: Place, counts: Counts, waiting: int, now: datetime) -> View:
    """Where the rollout is now, and what may be done.

    A stage that has passed and soaked gives way to the next. `place` is that of the look before. A plan that
    was changed goes on with its first stage that reaches as far as the rollout has come, or further.
    """
    bad = counts.failed + counts.timed_out + counts.rejected
    reached = counts.pending + counts.succeeded + bad
    total = reached + waiting
    ends = [math.ceil(stage.percent * total / 100) for stage in plan]
    at, passed_at = place.stage, place.passed_at
    if at is None:
        at, passed_at = next(i for i, end in enumerate(ends) if end >= reached), None
    while True:
        stage = plan[at]
        # A rollout may have come further than the stage goes: things left, or the plan was changed.
        reach = max(ends[at], reached)
        needed = 0 if stage.needed is None else math.ceil(stage.needed * reach / 100)
        failed = reach - bad < needed
        last = at == len(plan) - 1
        room, again_at = 0, None
        if not failed:
            if passed_at is None and not last and 0 < ends[at] <= reached and counts.succeeded >= needed:
                passed_at = now
            if passed_at is None:
                room = waiting if last else max(0, ends[at] - reached)
            else:
                # A clock that was set back must not hold a rollout up.
                passed_at = min(passed_at, now)
                if now >= passed_at + stage.soak:
                    at, passed_at = at + 1, None
                    continue
                again_at = passed_at + stage.soak
        return View(plan, Place(at, passed_at), failed, room, again_at, reach, total, needed, bad)


def of(job: Job, now: datetime) -> View | None:
    """Where the job's rollout is now; None where it has no stages, or reaches nothing any more."""
    if job.stages is None or job.stopped:
        return None
    return look(parse(job.stages), job.place, job.counts, job.waiting, now)


def told(view: View, counts: Counts) -> str:
    """Where the rollout is, in a sentence for the job's comment; `read` takes it apart again."""
    assert view.place.stage is not None
    stage = view.plan[view.place.stage]
    text = f"stage {view.place.stage + 1} of {len(view.plan)}: "
    share = f"{_shown(stage.percent)} %, {view.reach} of {view.total} things"
    if view.failed:
        return (
            f"{text}{share}, at least {view.needed} had to succeed, and {view.bad} did not: "
            f"{counts.failed} FAILED, {counts.timed_out} TIMED_OUT, {counts.rejected} REJECTED"
        )
    if view.again_at is not None:
        return (
            f"{text}{share}, passed with {counts.succeeded} SUCCEEDED; soaks until {_moment(view.again_at)}"
        )
    return f"{text}{share}" + (f", at least {view.needed} must succeed" if view.needed else "")


@dataclass(frozen=True, slots=True)
class Told:
    """What a comment of `told` says."""

    stage: int
    """From 1."""
    stages: int
    total: int
    """Things of the job, in all stages."""
    soaks_until: datetime | None


def read(comment: str) -> Told | None:
    """What the comment of a job says of its stages; None for any other text."""
    said, total, until = _SAID.match(comment), _TOTAL.search(comment), _UNTIL.search(comment)
    if said is None or total is None:
        return None
    end = None if until is None else datetime.strptime(until["until"], _FORMAT).replace(tzinfo=UTC)
    return Told(int(said["stage"]), int(said["stages"]), int(total["total"]), end)


_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime(_FORMAT)


def _shown(percent: Fraction) -> str:
    return f"{float(percent):g}"
