"""Which things a job is for: taken up when it begins, and kept up with while it is in progress.

A snapshot job is for those that were targets when it began. A continuous one also reaches things that become
members of its groups, and leaves things alone that no longer are, unless they have begun. Both let go of
things that were deleted. What is compared is what is, not what happened: a change of groups that nobody told
of, since the service was killed right after it, is made up for by the next comparison.
"""

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    union,
)

from broker_bridge.jobs import states
from broker_bridge.jobs.execution import PENDING, JobStatus, Status
from broker_bridge.jobs.job import Job, Target
from broker_bridge.registry import schema
from broker_bridge.registry.jobs import rows
from broker_bridge.registry.jobs.ledger import Change
from broker_bridge.registry.jobs.ledger import targets as targets
from broker_bridge.registry.jobs.tables import executions, job_targets, job_waiting, jobs
from broker_bridge.registry.thing_groups import members_of

_BATCH = 500
_THINGS, _MEMBERS = schema.things, schema.memberships

FOLLOWING = (jobs.c.status == JobStatus.IN_PROGRESS) | (
    (jobs.c.status == JobStatus.CANCELED) & (jobs.c.in_progress > 0)
)
"""Which jobs a change of things may concern: of a canceled one, executions may still be in progress."""


def take_up(change: Change, job: Job, thing: str | None = None) -> None:
    """Has all targets that the job has not reached wait for it, or one thing if it is among them."""
    last = (
        select(executions.c.status)
        .where(executions.c.job_number == job.number, executions.c.thing_name == _THINGS.c.thing_name)
        .order_by(executions.c.execution_number.desc())
        .limit(1)
        .scalar_subquery()
    )
    waits = exists().where(
        job_waiting.c.job_number == job.number, job_waiting.c.thing_name == _THINGS.c.thing_name
    )
    place = func.md5(literal(f"{job.job_id}/") + _THINGS.c.thing_name)
    new = select(literal(job.number), _THINGS.c.thing_name, place).where(
        _is_target(targets(change.connection, job)),
        func.coalesce(last, Status.REMOVED) == Status.REMOVED,
        ~waits,
        *(() if thing is None else (_THINGS.c.thing_name == thing,)),
    )
    done = change.connection.execute(
        insert(job_waiting).from_select(["job_number", "thing_name", "place"], new)
    )
    if done.rowcount:
        job.waiting += done.rowcount
        change.wake(job)


def let_go(change: Change, job: Job, thing: str | None = None) -> bool:
    """Removes things that are no targets any more, or one thing if it is none.

    At most _BATCH executions in one change: True if there may be more.
    """
    connection = change.connection

    def none(column: ColumnElement[str]) -> ColumnElement[bool]:
        there = exists().where(_THINGS.c.thing_name == column)
        if job.continuous:
            there = there.where(_is_target(targets(connection, job)))
        return ~there if thing is None else (column == thing) & ~there

    gone = delete(job_waiting).where(job_waiting.c.job_number == job.number, none(job_waiting.c.thing_name))
    if count := connection.execute(gone).rowcount:
        job.waiting -= count
        change.save(job)
    left = (
        rows.EXECUTION.where(
            executions.c.job_number == job.number,
            executions.c.status.in_(PENDING),
            none(executions.c.thing_name),
        )
        .where(
            # Whoever has begun goes on, unless the thing itself is gone.
            (executions.c.status == Status.QUEUED)
            | ~exists().where(_THINGS.c.thing_name == executions.c.thing_name)
        )
        .limit(_BATCH)
    )
    found = [rows.execution(row) for row in connection.execute(left)]
    for execution in found:
        change.write(job, execution, states.remove(execution, change.now))
    return len(found) == _BATCH


def concerned(connection: Connection, thing: str) -> list[str]:
    """Ids of the jobs that a change of the thing, or of its groups, may concern."""
    begun = select(executions.c.job_number).where(
        executions.c.thing_name == thing, executions.c.place.is_not(None)
    )
    waits = select(job_waiting.c.job_number).where(job_waiting.c.thing_name == thing)
    paths = connection.execute(select(_MEMBERS.c.group_path).where(_MEMBERS.c.thing_name == thing)).scalars()
    above = {f"{path[:end]}/" for path in paths for end in range(len(path)) if path[end] == "/"}
    aimed = select(job_targets.c.job_number).where(
        job_targets.c.group_path.in_(above) | (job_targets.c.thing_name == thing)
    )
    numbers = union(begun, waits, aimed).subquery()
    chosen = select(jobs.c.job_id).where(FOLLOWING, jobs.c.job_number.in_(select(numbers.c.job_number)))
    return list(connection.execute(chosen.order_by(jobs.c.job_number)).scalars())


def _is_target(found: Sequence[Target]) -> ColumnElement[bool]:
    """Whether the row of a thing is that of a target."""
    direct = [target.thing for target in found if target.thing is not None]
    inside = or_(false(), *(members_of(target.group_path) for target in found if target.group_path))
    return _THINGS.c.thing_name.in_(direct) | _THINGS.c.thing_name.in_(
        select(_MEMBERS.c.thing_name).where(inside)
    )
