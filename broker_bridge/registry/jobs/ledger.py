"""Changes of jobs and executions: one transaction each, and everything that follows from one within it.

Whatever leads an execution from a state to another comes through `Change`: it keeps the job's counts, tries
again what failed, stops the job when its abort criteria are met, completes it when nothing is left, and notes
what things are to be told. A killed service therefore finds either all of it done or nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from broker_bridge.jobs import abort, retries, stages
from broker_bridge.jobs.events import EngineDue, Event, ExecutionEvent, JobEvent
from broker_bridge.jobs.execution import Execution, JobStatus, Status
from broker_bridge.jobs.job import Job, Target
from broker_bridge.registry.database import Database
from broker_bridge.registry.jobs import pending, rows
from broker_bridge.registry.jobs.tables import executions, job_targets, job_waiting, jobs

ABORTED = "ABORT_CRITERIA_MET"
"""`reasonCode` of a job that its abort criteria stopped."""
STAGE_FAILED = "STAGE_FAILED"
"""`reasonCode` of a job that one of its stages stopped."""

_EXECUTION = (
    (executions.c.job_number == bindparam("of_job"))
    & (executions.c.thing_name == bindparam("of_thing"))
    & (executions.c.execution_number == bindparam("of_number"))
)
_UPDATE_EXECUTION = update(executions).where(_EXECUTION)
_TARGETS = (
    select(job_targets).where(job_targets.c.job_number == bindparam("job")).order_by(job_targets.c.position)
)
_DOCUMENT = select(jobs.c.document).where(jobs.c.job_number == bindparam("of_job"))
_UPDATE_JOB = update(jobs).where(jobs.c.job_number == bindparam("of_job"))

Listener = Callable[[Sequence[Event]], None]


def targets(connection: Connection, job: Job) -> list[Target]:
    """The job's targets, in the order in which they were given."""
    return [
        Target(row.thing_name, row.group_path) for row in connection.execute(_TARGETS, {"job": job.number})
    ]


class Ledger:
    """The jobs of a database, as all who change them share them. Its calls block, from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Listener] = []

    def on_change(self, listener: Listener) -> None:
        """Has `listener` called with what happened after each change that did something.

        The change stands by then, and the call comes from the thread that made it: it must not raise. Events
        are lost with the process; what things are to be told is not (`Notice`).
        """
        self._listeners.append(listener)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """As `Database.reading`."""
        with self._database.reading() as connection:
            yield connection

    @contextmanager
    def changing(self, now: datetime) -> Iterator["Change"]:
        """A change at that moment, settled and committed where the body ends well, undone where it raises."""
        with self._database.changing() as connection:
            change = Change(connection, now)
            yield change
            change.settle()
        if change.events:
            for listener in self._listeners:
                listener(change.events)


class Books:
    """The jobs that one transaction has to do with, each read once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._jobs: dict[str, Job] = {}
        self._documents: dict[int, str] = {}

    def job(self, job_id: str) -> Job:
        """The job, the same object throughout. JobNotFound."""
        if job_id not in self._jobs:
            self._jobs[job_id] = rows.find_job(self.connection, job_id)
        return self._jobs[job_id]

    def document(self, job: Job) -> str:
        """Its document, which never changes."""
        if job.number not in self._documents:
            found = self.connection.execute(_DOCUMENT, {"of_job": job.number}).scalar_one()
            self._documents[job.number] = str(found)
        return self._documents[job.number]


class Change(Books):
    """One transaction that changes. For `Ledger.changing` alone to make."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        super().__init__(connection)
        self.now = now
        self.events: list[Event] = []
        # A dictionary for its order: of jobs that end together the events come as the changes did.
        self._changed: dict[str, Job] = {}
        self._written: list[dict[str, Any]] = []
        self._things: set[str] = set()
        self._listed: set[str] = set()

    def save(self, job: Job) -> None:
        """The job was changed: it is written when the change is settled."""
        self._changed[job.job_id] = job

    def wake(self, job: Job, at: datetime | None = None) -> None:
        """Has the engine look at the job, now or at that time."""
        job.due_at = self.now if at is None else at
        self.save(job)
        self.events.append(EngineDue(job.due_at))

    def tell(self, operation: str, job: Job) -> None:
        """Something happened to the job as a whole; what it is now is kept for those who hear of it."""
        now = replace(job, counts=replace(job.counts))
        self.events.append(JobEvent(operation, now, tuple(targets(self.connection, job))))

    def touch(self, things: Iterable[str]) -> None:
        """What is pending for these things was changed otherwise."""
        self._things.update(things)
        self._listed.update(things)

    def forget(self, job: Job) -> None:
        """The job's row was deleted."""
        self._changed.pop(job.job_id, None)
        del self._jobs[job.job_id]

    def write(self, job: Job, before: Execution, after: Execution) -> None:
        """One execution of the job goes from `before` to `after`, with all that follows.

        It is in the table when the change is settled, or after `flush`.
        """
        self._written.append(
            {
                "of_job": job.number,
                "of_thing": after.thing,
                "of_number": after.number,
                **rows.changing_values(after),
            }
        )
        due = after.due_at
        if due is not None and due != before.due_at:
            self.events.append(EngineDue(due))
        if after.status is before.status:
            return
        job.counts.move(before.status, after.status)
        self.save(job)
        self._things.add(after.thing)
        if after.pending:
            return
        self._listed.add(after.thing)
        self.events.append(ExecutionEvent(after.status.lower(), after))
        job.tally = abort.counted(job.tally, after)
        if job.status is not JobStatus.IN_PROGRESS:
            return
        if (criterion := abort.met(job.config.abort, job.tally)) is not None:
            comment = (
                f"{criterion.failure}: {criterion.percentage:g} % or more of {job.tally.executed} things "
                "that executed the job"
            )
            self.cancel(job, reason_code=ABORTED, comment=comment)
        elif not job.stopped:
            again = retries.next_try(job.config.retries, after, self.now)
            if again is not None:
                job.counts.move(after.status, again.status)
                self._insert(job, [again])
            self._judge(job, after)

    def flush(self) -> None:
        """Has the table of executions say what was written, all of it in one statement."""
        if self._written:
            self.connection.execute(_UPDATE_EXECUTION, self._written)
            self._written.clear()

    def queue(self, job: Job, found: Sequence[tuple[str, int, Status | None]]) -> None:
        """Reaches things: each with the number of its last execution (0 without) and the state of that."""
        for _, _, status in found:
            job.counts.move(status, Status.QUEUED)
        job.notified += len(found)
        self.save(job)
        self._insert(
            job, [retries.queued(job.job_id, thing, number + 1, self.now) for thing, number, _ in found]
        )

    def gone(self, job: Job, execution: Execution, before: Execution | None, latest: bool) -> None:
        """An execution was deleted: the latest of its thing, to which `before` is the next, or another."""
        if latest:
            job.counts.move(execution.status, None if before is None else before.status)
            self.save(job)
            if job.status is JobStatus.IN_PROGRESS and job.stages is not None:
                self.wake(job)
        self._things.add(execution.thing)
        if execution.pending:
            self._listed.add(execution.thing)
        self.events.append(ExecutionEvent("deleted", execution))

    def cancel(self, job: Job, *, reason_code: str | None, comment: str | None, force: bool = False) -> None:
        """Stops the job: from this moment no thing gets it that has not begun, nor goes on with `force`."""
        job.status = JobStatus.CANCELED
        job.force_canceled = force
        job.reason_code, job.comment = reason_code, comment
        job.updated_at = self.now
        self.drop_waiting(job)
        self.tell("cancellation_in_progress", job)
        self.wake(job)
        # What else is asked within this change must find it so: what is pending is read from the tables.
        self._store(job)

    def fail_stage(self, job: Job, seen: stages.View) -> None:
        """Stops the job, whose stage has failed."""
        job.place = seen.place
        self.cancel(job, reason_code=STAGE_FAILED, comment=stages.told(seen, job.counts))

    def drop_waiting(self, job: Job) -> None:
        """The things that wait for the job get it no more."""
        if job.waiting:
            self.connection.execute(delete(job_waiting).where(job_waiting.c.job_number == job.number))
            job.waiting = 0
            self.save(job)

    def settle(self) -> None:
        """Completes jobs that have nothing left, writes all, and notes what things are to be told."""
        self.flush()
        for job in self._changed.values():
            if job.status is JobStatus.IN_PROGRESS and job.finished:
                job.status = JobStatus.COMPLETED
                job.completed_at = job.updated_at = self.now
                job.due_at = None
                self.tell("completed", job)
            self._store(job)
        if self._things:
            self.events += pending.refresh(self.connection, self._things, self._listed)

    def _judge(self, job: Job, ended: Execution) -> None:
        """Stops a job whose stage fails by that execution; that one passes is for the engine to see."""
        seen = stages.of(job, self.now)
        if seen is None:
            return
        if seen.failed:
            self.fail_stage(job, seen)
        elif seen.place != job.place or ended.status in (Status.REMOVED, Status.CANCELED):
            self.wake(job)

    def _store(self, job: Job) -> None:
        self.connection.execute(_UPDATE_JOB, {"of_job": job.number, **rows.job_values(job)})

    def _insert(self, job: Job, new: Sequence[Execution]) -> None:
        self.connection.execute(
            insert(executions),
            [
                {
                    "job_number": job.number,
                    "thing_name": execution.thing,
                    "execution_number": execution.number,
                    **rows.execution_values(execution),
                }
                for execution in new
            ],
        )
        self.touch([execution.thing for execution in new])
