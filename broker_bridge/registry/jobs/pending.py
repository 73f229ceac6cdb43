"""What is pending for a thing, which of it is next, and whether the thing was told.

The next execution is the oldest in progress, else the oldest that is queued (AWS: in the order in which they
were created). Queued executions of a job that was canceled do not count, and nothing of a job that is being
deleted: such a job is stopped by one change of its own row, and its executions follow in small steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, func, insert, select, update

from broker_bridge.jobs.events import Event, NextChanged, PendingChanged
from broker_bridge.jobs.execution import Execution, JobStatus, Status
from broker_bridge.registry.jobs import rows
from broker_bridge.registry.jobs.tables import executions, jobs, notices

_BATCH = 500
"""Things asked about at once: each is a parameter of the statement."""

_COUNTS = executions.c.place.is_not(None) & (
    (jobs.c.status == JobStatus.IN_PROGRESS)
    | (
        (jobs.c.status == JobStatus.CANCELED)
        & jobs.c.force_canceled.is_(False)
        & (executions.c.status == Status.IN_PROGRESS)
    )
)
_ORDER = (executions.c.place, executions.c.queued_at, executions.c.job_number)
_OF_THING = rows.EXECUTION.where(executions.c.thing_name == bindparam("thing"), _COUNTS).order_by(*_ORDER)
_NEXT = _OF_THING.limit(1)
_FIRST = _OF_THING.limit(bindparam("limit"))
_QUEUED = _OF_THING.where(executions.c.status == Status.QUEUED).limit(bindparam("limit"))
_THINGS: BindParameter[str] = bindparam("things", expanding=True)
_RANKED = (
    rows.EXECUTION.add_columns(
        func.row_number()
        .over(
            partition_by=(executions.c.thing_name, executions.c.place),
            order_by=(executions.c.queued_at, executions.c.job_number),
        )
        .label("rank")
    )
    .where(executions.c.thing_name.in_(_THINGS), _COUNTS)
    .subquery()
)
_OF_THINGS = (
    select(_RANKED)
    .where(_RANKED.c.rank <= bindparam("limit"))
    .order_by(_RANKED.c.thing_name, _RANKED.c.place, _RANKED.c.rank)
)
_OF_JOB = rows.EXECUTION.where(
    executions.c.job_number == bindparam("job"),
    executions.c.thing_name.in_(_THINGS),
    executions.c.place.is_not(None),
)
_NEXT_ONES = (
    select(executions.c.thing_name, executions.c.job_number, executions.c.execution_number)
    .join_from(executions, jobs)
    .where(executions.c.thing_name.in_(_THINGS), _COUNTS)
    .order_by(executions.c.thing_name, *_ORDER)
)
_NOTICES = select(notices).where(notices.c.thing_name.in_(_THINGS))
_UPDATE_NOTICE = update(notices).where(notices.c.thing_name == bindparam("thing"))
_DUE = notices.c.next_changes.is_not(None) | notices.c.list_changes.is_not(None)


_OF_NOTICE = notices.c.thing_name == bindparam("thing")
_NEXT_TOLD = (
    update(notices).where(_OF_NOTICE, notices.c.next_changes == bindparam("count")).values(next_changes=None)
)
_LIST_TOLD = (
    update(notices).where(_OF_NOTICE, notices.c.list_changes == bindparam("count")).values(list_changes=None)
)
_NOTHING_LEFT = delete(notices).where(_OF_NOTICE, notices.c.job_number.is_(None), ~_DUE)


@dataclass(frozen=True, slots=True)
class Pending:
    """What is pending for a thing: the oldest first, of each state."""

    in_progress: list[Execution]
    queued: list[Execution]

    @property
    def next(self) -> Execution | None:
        """The one that is next."""
        return next(iter((*self.in_progress, *self.queued)), None)


@dataclass(frozen=True, slots=True)
class Notice:
    """A thing that is to be told something."""

    thing: str
    next_changes: int
    """Above 0: that another execution is its next one, with `notify-next`."""
    list_changes: int
    """Above 0: that its list of pending executions changed, with `notify`."""


def next_of(connection: Connection, thing: str) -> Execution | None:
    """The thing's next execution, or None."""
    row = connection.execute(_NEXT, {"thing": thing}).one_or_none()
    return None if row is None else rows.execution(row)


def all_of(connection: Connection, thing: str, limit: int) -> Pending:
    """What is pending for the thing, at most `limit` of each state."""
    found = [rows.execution(row) for row in connection.execute(_FIRST, {"thing": thing, "limit": 2 * limit})]
    begun = [execution for execution in found if execution.status is Status.IN_PROGRESS]
    queued = found[len(begun) :]
    if len(found) == 2 * limit and len(queued) < limit:
        chosen = connection.execute(_QUEUED, {"thing": thing, "limit": limit})
        queued = [rows.execution(row) for row in chosen]
    return Pending(begun[:limit], queued[:limit])


def all_of_many(connection: Connection, things: Sequence[str], limit: int) -> dict[str, Pending]:
    """What is pending for each of these things, at most `limit` of each state."""
    found = {thing: Pending([], []) for thing in things}
    if not found:
        return found
    for row in connection.execute(_OF_THINGS, {"things": things, "limit": limit}).all():
        execution = rows.execution(row)
        mine = found[execution.thing]
        (mine.in_progress if execution.status is Status.IN_PROGRESS else mine.queued).append(execution)
    return found


def of_job(connection: Connection, job: int, things: Sequence[str]) -> list[Execution]:
    """The pending executions of that job, by its number, for those of the things that have one.

    For a thing there is one of a job at most, and it is the latest: it is tried again when it has ended.
    """
    chosen = connection.execute(_OF_JOB, {"job": job, "things": things})
    return [rows.execution(row) for row in chosen.all()]


def refresh(connection: Connection, things: Iterable[str], listed: set[str]) -> list[Event]:
    """Notes for each thing whether its next execution is another one now; for `listed`, that its list is.

    `listed` are among `things`. Returns what changed.
    """
    names = sorted(things)
    events: list[Event] = []
    for start in range(0, len(names), _BATCH):
        events += _refresh(connection, names[start : start + _BATCH], listed)
    return events


def _refresh(connection: Connection, names: Sequence[str], listed: set[str]) -> list[Event]:
    next_ones: dict[str, tuple[int, int]] = {}
    for thing, job, number in connection.execute(_NEXT_ONES, {"things": names}).all():
        next_ones.setdefault(thing, (job, number))
    there = {row.thing_name: row for row in connection.execute(_NOTICES, {"things": names})}
    events: list[Event] = []
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for thing in names:
        row = there.get(thing)
        known = None if row is None or row.job_number is None else (row.job_number, row.execution_number)
        now = next_ones.get(thing)
        if now == known and thing not in listed:
            continue
        next_changes = None if row is None else row.next_changes
        list_changes = None if row is None else row.list_changes
        if now != known:
            next_changes = (next_changes or 0) + 1
            events.append(NextChanged(thing))
        if thing in listed:
            list_changes = (list_changes or 0) + 1
            events.append(PendingChanged(thing))
        job, number = now or (None, None)
        values = {
            "job_number": job,
            "execution_number": number,
            "next_changes": next_changes,
            "list_changes": list_changes,
        }
        if row is None:
            new.append({"thing_name": thing, **values})
        else:
            changed.append({"thing": thing, **values})
    if new:
        connection.execute(insert(notices), new)
    if changed:
        connection.execute(_UPDATE_NOTICE, changed)
    return events


def due(connection: Connection, after: str, limit: int) -> list[Notice]:
    """Things with a name behind `after` that are to be told something, by name, at most `limit`."""
    chosen = (
        select(notices).where(_DUE, notices.c.thing_name > after).order_by(notices.c.thing_name).limit(limit)
    )
    return [
        Notice(row.thing_name, row.next_changes or 0, row.list_changes or 0)
        for row in connection.execute(chosen)
    ]


def announced(connection: Connection, told: Sequence[Notice]) -> None:
    """The things were told that. What changed since stays to be told."""
    for statement, values in (
        (_NEXT_TOLD, [{"thing": one.thing, "count": one.next_changes} for one in told if one.next_changes]),
        (_LIST_TOLD, [{"thing": one.thing, "count": one.list_changes} for one in told if one.list_changes]),
        (_NOTHING_LEFT, [{"thing": one.thing} for one in told]),
    ):
        if values:
            connection.execute(statement, values)
