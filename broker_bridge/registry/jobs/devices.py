"""Jobs as devices see them: what `$aws/things/{thing}/jobs/…` and `iot-jobs-data` ask for.

Here is what is decided; how it is asked and answered is the rims'. A thing that the registry does not know
has no jobs, which is no error: devices may ask before they are registered.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from broker_bridge.jobs import states
from broker_bridge.jobs.errors import ExecutionEnded, ExecutionNotFound, JobNotFound
from broker_bridge.jobs.execution import Execution, JobStatus, Status
from broker_bridge.jobs.job import Job
from broker_bridge.registry.jobs import pending, rows
from broker_bridge.registry.jobs.ledger import Books, Change, Ledger
from broker_bridge.registry.jobs.pending import Notice, Pending

NEXT = "$next"
"""What stands for the job of a thing's next execution."""
MAX_LISTED = 10
"""Executions of each state in a list of what is pending (AWS)."""


@dataclass(frozen=True, slots=True)
class Work:
    """An execution as a device gets it; `jobs.showing` makes messages of it."""

    execution: Execution
    job: Job
    document: str | None
    """The job's document as the operator gave it, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A thing that is to be told something, and what: all as it was at one moment."""

    notice: Notice
    pending: Pending
    next: Work | None
    """With its document, where the notice is of the next execution."""


class DeviceJobs:
    """The devices' door to a registry's jobs. Its calls block, and may come from any thread.

    Each call but `together` is a transaction of its own.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @contextmanager
    def together(self, now: datetime, about: Iterable[tuple[str, str]] = ()) -> Iterator["Requests"]:
        """Requests of many devices in one transaction, which stands when the body has ended well.

        One that raises a JobError has changed nothing, and the others go on; after any other error the body
        must raise too. `about`: the things that ask, and the jobs that they ask about (NEXT or nothing: what
        is pending); these are read at once, where others are asked for singly.
        """
        with self._ledger.changing(now) as change:
            requests = Requests(change)
            requests.read(about)
            yield requests

    def pending(self, thing: str) -> Pending:
        """As `Requests.pending`."""
        with self._ledger.reading() as connection:
            return pending.all_of(connection, thing, MAX_LISTED)

    def describe(
        self, thing: str, job_id: str, *, number: int | None = None, with_document: bool = True
    ) -> Work | None:
        """As `Requests.describe`."""
        with self._ledger.reading() as connection:
            books = Books(connection)
            if job_id == NEXT:
                return _described(books, pending.next_of(connection, thing), with_document)
            return _described(books, _find(books, job_id, thing, number), with_document)

    def start_next(
        self,
        thing: str,
        now: datetime,
        *,
        details: Mapping[str, str] | None = None,
        step_minutes: int | None = None,
    ) -> Work | None:
        """As `Requests.start_next`."""
        with self.together(now) as requests:
            return requests.start_next(thing, details=details, step_minutes=step_minutes)

    def update(
        self,
        thing: str,
        job_id: str,
        status: Status,
        now: datetime,
        *,
        details: Mapping[str, str] | None = None,
        expected_version: int | None = None,
        number: int | None = None,
        step_minutes: int | None = None,
        with_document: bool = False,
    ) -> Work:
        """As `Requests.update`."""
        with self.together(now) as requests:
            return requests.update(
                thing,
                job_id,
                status,
                details=details,
                expected_version=expected_version,
                number=number,
                step_minutes=step_minutes,
                with_document=with_document,
            )

    def announcements(self, after: str, limit: int) -> list[Announcement]:
        """What things with names behind `after` are to be told, by name, at most `limit`.

        They are due until `job_steps.announced` has heard that they were told.
        """
        with self._ledger.reading() as connection:
            due = pending.due(connection, after, limit)
            lists = pending.all_of_many(connection, [notice.thing for notice in due], MAX_LISTED)
            books = Books(connection)
            found = []
            for notice in due:
                first = lists[notice.thing].next if notice.next_changes else None
                work = None if first is None else _work(books, first, True)
                found.append(Announcement(notice, lists[notice.thing], work))
            return found


class Requests:
    """What devices ask, in an open transaction. For `DeviceJobs.together` alone to make."""

    def __init__(self, change: Change) -> None:
        self._change = change
        # What was read at once, as far as this transaction has not changed it: what is pending for things,
        # and the pending execution of a job, by thing and job.
        self._lists: dict[str, Pending] = {}
        self._executions: dict[tuple[str, str], Execution] = {}

    def read(self, about: Iterable[tuple[str, str]]) -> None:
        """As `DeviceJobs.together` says."""
        connection = self._change.connection
        things: dict[str, set[str]] = {}
        for thing, job_id in about:
            things.setdefault(job_id, set()).add(thing)
        listed = things.pop(NEXT, set()) | things.pop("", set())
        self._lists = pending.all_of_many(connection, sorted(listed), MAX_LISTED)
        for job_id, some in things.items():
            try:
                job = self._change.job(job_id)
            except JobNotFound:
                continue
            if job.status is JobStatus.IN_PROGRESS:
                for execution in pending.of_job(connection, job.number, sorted(some)):
                    self._executions[execution.thing, job_id] = execution

    def pending(self, thing: str) -> Pending:
        """GetPendingJobExecutions."""
        found = self._lists.get(thing)
        if found is None:
            self._change.flush()
            found = pending.all_of(self._change.connection, thing, MAX_LISTED)
        return found

    def describe(
        self, thing: str, job_id: str, *, number: int | None = None, with_document: bool = True
    ) -> Work | None:
        """DescribeJobExecution. Of NEXT it is the next execution, and None where nothing is pending.

        `number`: of a certain execution, else the latest. JobNotFound, ExecutionNotFound; ExecutionEnded for
        one that has ended.
        """
        found = self.pending(thing).next if job_id == NEXT else self._find(job_id, thing, number)
        return _described(self._change, found, with_document)

    def start_next(
        self, thing: str, *, details: Mapping[str, str] | None = None, step_minutes: int | None = None
    ) -> Work | None:
        """StartNextPendingJobExecution: the next execution, in progress; None where nothing is pending.

        One that was in progress already keeps its details and its version; its step timer begins anew where
        one is given. InvalidJob for details or minutes out of bounds.
        """
        if details is not None:
            states.check_details(details)
        states.check_step(step_minutes)
        found = self.pending(thing).next
        if found is None:
            return None
        now = self._change.now
        if found.status is Status.QUEUED:
            begun = states.update(
                found,
                Status.IN_PROGRESS,
                now,
                details=details,
                step_minutes=step_minutes,
                timeout_minutes=self._change.job(found.job_id).config.timeout_minutes,
            )
        else:
            begun = states.with_step(found, now, step_minutes)
        if begun != found:
            self._write(found, begun)
        return _work(self._change, begun, True)

    def update(
        self,
        thing: str,
        job_id: str,
        status: Status,
        *,
        details: Mapping[str, str] | None = None,
        expected_version: int | None = None,
        number: int | None = None,
        step_minutes: int | None = None,
        with_document: bool = False,
    ) -> Work:
        """UpdateJobExecution: what the device reports of its execution, the latest without `number`.

        Returns it as it is now; where it failed and is tried again, that is another execution. JobNotFound,
        ExecutionNotFound, InvalidJob; VersionMismatch and InvalidTransition, which hold it as it is.
        """
        found = self._find(job_id, thing, number)
        changed = states.update(
            found,
            status,
            self._change.now,
            details=details,
            expected_version=expected_version,
            step_minutes=step_minutes,
            timeout_minutes=self._change.job(job_id).config.timeout_minutes,
        )
        self._write(found, changed)
        return _work(self._change, changed, with_document)

    def _find(self, job_id: str, thing: str, number: int | None) -> Execution:
        known = self._executions.get((thing, job_id))
        if known is not None and number in (None, known.number):
            return known
        self._change.flush()
        return _find(self._change, job_id, thing, number)

    def _write(self, before: Execution, after: Execution) -> None:
        job = self._change.job(after.job_id)
        status = job.status
        self._change.write(job, before, after)
        self._lists.pop(after.thing, None)
        self._executions.pop((after.thing, after.job_id), None)
        if job.status is not status:
            # Canceled, which may concern every thing.
            self._lists.clear()
            self._executions.clear()


def _find(books: Books, job_id: str, thing: str, number: int | None) -> Execution:
    """The execution as it is for the device, whether the engine has come to it yet or not."""
    job = books.job(job_id)
    if job.status is JobStatus.DELETION_IN_PROGRESS:
        raise ExecutionNotFound(job_id, thing, number)
    found = rows.find_execution(books.connection, job, thing, number)
    if job.status is JobStatus.CANCELED and (
        found.status is Status.QUEUED or (found.pending and job.force_canceled)
    ):
        return states.cancel(found, job.updated_at, force=True)
    return found


def _described(books: Books, found: Execution | None, with_document: bool) -> Work | None:
    if found is None:
        return None
    if not found.pending:
        raise ExecutionEnded(found)
    return _work(books, found, with_document)


def _work(books: Books, execution: Execution, with_document: bool) -> Work:
    job = books.job(execution.job_id)
    return Work(execution, job, books.document(job) if with_document else None)
