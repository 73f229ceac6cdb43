"""What the engine does when it is due: a bounded part of it in each transaction.

Between two of them a service may be killed: whatever is left is found by the next step, since it looks at
what is, never at what it did before.
"""

from datetime import datetime

from sqlalchemy import delete, func, select, tuple_, update

from broker_bridge.jobs import stages, states
from broker_bridge.jobs.execution import PENDING, JobStatus, Status
from broker_bridge.jobs.job import Job
from broker_bridge.jobs.rollout import kept, plan
from broker_bridge.jobs.schedule import EndBehavior
from broker_bridge.registry.jobs import pending, rows
from broker_bridge.registry.jobs.ledger import Change, Ledger
from broker_bridge.registry.jobs.pending import Notice
from broker_bridge.registry.jobs.store import begin
from broker_bridge.registry.jobs.tables import GONE, executions, job_targets, job_waiting, jobs

BATCH = 200
"""Executions that one transaction changes: some 10 ms, for which devices' reports wait."""
SCHEDULE_ENDED = "SCHEDULE_END_TIME_REACHED"
"""`reasonCode` of a job that its `endBehavior` canceled."""

# What is being deleted has no timers: its rows only wait to go.
_TIMED = executions.c.due_at.is_not(None) & (jobs.c.status != JobStatus.DELETION_IN_PROGRESS)


class JobSteps:
    """The engine's door to a registry's jobs. Its calls block, and may come from any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def next_due(self) -> datetime | None:
        """When something is to be done; perhaps in the past, where it is late. None: nothing is to come."""
        with self._ledger.reading() as connection:
            at = [
                connection.execute(
                    select(func.min(jobs.c.due_at)).where(jobs.c.due_at.is_not(None))
                ).scalar(),
                connection.execute(
                    select(executions.c.due_at)
                    .join_from(executions, jobs)
                    .where(_TIMED)
                    .order_by(executions.c.due_at)
                    .limit(1)
                ).scalar(),
            ]
        return min((moment for moment in at if moment is not None), default=None)

    def due_jobs(self, now: datetime, limit: int) -> list[str]:
        """Ids of the jobs that are to be looked at, the most overdue first, at most `limit`."""
        chosen = select(jobs.c.job_id).where(jobs.c.due_at <= now).order_by(jobs.c.due_at, jobs.c.job_number)
        with self._ledger.reading() as connection:
            return list(connection.execute(chosen.limit(limit)).scalars())

    def time_out(self, now: datetime) -> bool:
        """Ends executions whose timer has run out, at most BATCH; True if there may be more."""
        chosen = rows.EXECUTION.where(_TIMED, executions.c.due_at <= now)
        with self._ledger.changing(now) as change:
            found = change.connection.execute(chosen.order_by(executions.c.due_at).limit(BATCH)).all()
            for row in found:
                execution = rows.execution(row)
                change.write(change.job(execution.job_id), execution, states.time_out(execution, now))
            return len(found) == BATCH

    def step(self, job_id: str, now: datetime) -> None:
        """Does the next part of what is due for the job. JobNotFound."""
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            if job.due_at is None or job.due_at > now:
                return
            job.due_at = None
            change.save(job)
            match job.status:
                case JobStatus.SCHEDULED:
                    _start(change, job)
                case JobStatus.IN_PROGRESS:
                    _roll_out(change, job)
                case JobStatus.CANCELED:
                    _cancel(change, job)
                case JobStatus.DELETION_IN_PROGRESS:
                    _delete(change, job)

    def put_off(self, job_id: str, now: datetime, until: datetime) -> None:
        """Has the job looked at no sooner than then. It is not read: its row may be what is wrong."""
        with self._ledger.changing(now) as change:
            change.connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(due_at=until))

    def notices(self, after: str, limit: int) -> list[Notice]:
        """What things with names behind `after` are to be told, by name, at most `limit`."""
        with self._ledger.reading() as connection:
            return pending.due(connection, after, limit)

    def announced(self, told: list[Notice], now: datetime) -> None:
        """They were told. What changed since stays to be told."""
        with self._ledger.changing(now) as change:
            pending.announced(change.connection, told)


def _start(change: Change, job: Job) -> None:
    if _ended(change, job):
        return
    opens = job.config.schedule.opens_at(change.now)
    if opens == change.now:
        begin(change, job)
    else:
        job.due_at = _earlier(opens, job.config.schedule.end)


def _roll_out(change: Change, job: Job) -> None:
    if _ended(change, job):
        return
    schedule, now = job.config.schedule, change.now
    end = None if job.stopped else schedule.end
    room, again_at = job.waiting, None
    seen = stages.of(job, now)
    if seen is not None:
        if seen.failed:
            change.fail_stage(job, seen)
            return
        if seen.place != job.place:
            job.place, job.comment, job.updated_at = seen.place, stages.told(seen, job.counts), now
        room, again_at = seen.room, seen.again_at
    if job.paused or not room:
        job.due_at = _earlier(again_at, end)
        return
    opens = schedule.opens_at(now)
    if opens != now:
        job.due_at = _earlier(opens, end)
        return
    rate = job.config.rollout.per_minute(job.notified, job.counts.succeeded)
    recent = kept(job.recent, now)
    step = plan(rate, recent, room, now, BATCH)
    if step.count:
        _reach(change, job, step.count)
        recent = (*recent, (now, step.count))
    job.recent = recent if rate is not None else ()
    job.due_at = _earlier(step.again_at, end) if job.waiting else end


def _reach(change: Change, job: Job, count: int) -> None:
    mine = job_waiting.c.job_number == job.number
    place, thing = job_waiting.c.place, job_waiting.c.thing_name
    chosen = select(place, thing).where(mine).order_by(place, thing).limit(count)
    found = change.connection.execute(chosen).all()
    names = [row.thing_name for row in found]
    through = tuple_(place, thing) <= tuple_(found[-1].place, found[-1].thing_name)
    change.connection.execute(delete(job_waiting).where(mine, through))
    job.waiting -= len(names)
    last: dict[str, tuple[int, Status | None]] = {}
    if job.continuous:
        before = (
            select(executions.c.thing_name, executions.c.execution_number, executions.c.status)
            .where(executions.c.job_number == job.number, executions.c.thing_name.in_(names))
            .order_by(executions.c.execution_number)
        )
        for name, number, status in change.connection.execute(before):
            # The number of one that was deleted stays taken; what is counted is the last that is there.
            counted = last.get(name, (0, None))[1] if status == GONE else Status(status)
            last[name] = (number, counted)
    change.queue(job, [(name, *last.get(name, (0, None))) for name in names])


def _ended(change: Change, job: Job) -> bool:
    """Does what is to be done at the end of the schedule; False where it is not reached."""
    schedule = job.config.schedule
    if schedule.end is None or job.stopped or change.now < schedule.end:
        return False
    if schedule.at_end is EndBehavior.STOP_ROLLOUT:
        job.status = JobStatus.IN_PROGRESS
        job.stopped = True
        change.drop_waiting(job)
    else:
        force = schedule.at_end is EndBehavior.FORCE_CANCEL
        change.cancel(job, reason_code=SCHEDULE_ENDED, comment=None, force=force)
    return True


def _cancel(change: Change, job: Job) -> None:
    wanted = PENDING if job.force_canceled else {Status.QUEUED}
    chosen = rows.EXECUTION.where(
        executions.c.job_number == job.number, executions.c.status.in_(sorted(wanted))
    )
    found = [rows.execution(row) for row in change.connection.execute(chosen.limit(BATCH))]
    for execution in found:
        change.write(job, execution, states.cancel(execution, change.now, force=job.force_canceled))
    if len(found) == BATCH:
        job.due_at = change.now
    else:
        change.tell("canceled", job)


def _delete(change: Change, job: Job) -> None:
    connection = change.connection
    mine = executions.c.job_number == job.number
    name = tuple_(executions.c.thing_name, executions.c.execution_number)
    chosen = select(executions).where(mine).order_by(executions.c.thing_name, executions.c.execution_number)
    found = connection.execute(chosen.limit(BATCH)).all()
    if found:
        last = tuple_(found[-1].thing_name, found[-1].execution_number)
        connection.execute(delete(executions).where(mine, name <= last))
        change.touch({row.thing_name for row in found if row.place is not None})
    if len(found) == BATCH:
        job.due_at = change.now
        return
    # As long as its targets can be read: they are told too.
    change.tell("deleted", job)
    connection.execute(delete(job_targets).where(job_targets.c.job_number == job.number))
    connection.execute(delete(jobs).where(jobs.c.job_number == job.number))
    change.forget(job)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((at for at in (one, other) if at is not None), default=None)
