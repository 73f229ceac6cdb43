"""Jobs as devices see them: what `$aws/things/{thing}/jobs/…` and `iot-jobs-data` ask for.

Here is what is decided; how it is asked and answered is the rims'. A thing that the registry does not know
has no jobs, which is no error: devices may ask before they are registered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from broker_bridge.jobs import states
from broker_bridge.jobs.errors import ExecutionEnded, ExecutionNotFound
from broker_bridge.jobs.execution import Execution, JobStatus, Status
from broker_bridge.jobs.job import Job
from broker_bridge.registry.jobs import pending, rows
from broker_bridge.registry.jobs.ledger import Ledger
from broker_bridge.registry.jobs.tables import jobs

NEXT = "$next"
"""What stands for the job of a thing's next execution."""
MAX_LISTED = 10
"""Executions of each state in a list of what is pending (AWS)."""

_DOCUMENT = select(jobs.c.document).where(jobs.c.job_id == bindparam("id"))


@dataclass(frozen=True, slots=True)
class Work:
    """An execution as a device gets it. Times and seconds are the caller's to show."""

    execution: Execution
    document: str | None
    """The job's document, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What is pending for a thing: the oldest first, at most MAX_LISTED of each state."""

    in_progress: list[Execution]
    queued: list[Execution]


class DeviceJobs:
    """The devices' door to a registry's jobs. Its calls block, and may come from any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def pending(self, thing: str) -> Pending:
        """GetPendingJobExecutions, and what `notify` tells."""
        with self._ledger.reading() as connection:
            found = pending.all_of(connection, thing, MAX_LISTED)
        begun = [execution for execution in found if execution.status is Status.IN_PROGRESS]
        return Pending(begun, found[len(begun) :])

    def describe(
        self, thing: str, job_id: str, *, number: int | None = None, with_document: bool = True
    ) -> Work | None:
        """DescribeJobExecution. Of NEXT it is the next execution, and None where nothing is pending.

        `number`: of a certain execution, else the latest. JobNotFound, ExecutionNotFound; ExecutionEnded for
        one that has ended.
        """
        with self._ledger.reading() as connection:
            if job_id == NEXT:
                found = pending.next_of(connection, thing)
                return None if found is None else _work(connection, found, with_document)
            execution = _find(connection, rows.find_job(connection, job_id), thing, number)
            if not execution.pending:
                raise ExecutionEnded(execution)
            return _work(connection, execution, with_document)

    def start_next(
        self,
        thing: str,
        now: datetime,
        *,
        details: Mapping[str, str] | None = None,
        step_minutes: int | None = None,
    ) -> Work | None:
        """StartNextPendingJobExecution: the next execution, in progress; None where nothing is pending.

        One that was in progress already keeps its details and its version; its step timer begins anew where
        one is given. InvalidJob for details or minutes out of bounds.
        """
        if details is not None:
            states.check_details(details)
        states.check_step(step_minutes)
        with self._ledger.changing(now) as change:
            found = pending.next_of(change.connection, thing)
            if found is None:
                return None
            job = change.job(found.job_id)
            if found.status is Status.QUEUED:
                begun = states.update(
                    found,
                    Status.IN_PROGRESS,
                    now,
                    details=details,
                    step_minutes=step_minutes,
                    timeout_minutes=job.config.timeout_minutes,
                )
            else:
                begun = states.with_step(found, now, step_minutes)
            if begun != found:
                change.write(job, found, begun)
            return _work(change.connection, begun, True)

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
        """UpdateJobExecution: what the device reports of its execution, the latest without `number`.

        Returns it as it is now; where it failed and is tried again, that is another execution. JobNotFound,
        ExecutionNotFound, InvalidJob; VersionMismatch and InvalidTransition, which hold it as it is.
        """
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            found = _find(change.connection, job, thing, number)
            changed = states.update(
                found,
                status,
                now,
                details=details,
                expected_version=expected_version,
                step_minutes=step_minutes,
                timeout_minutes=job.config.timeout_minutes,
            )
            change.write(job, found, changed)
            return _work(change.connection, changed, with_document)


def _find(connection: Connection, job: Job, thing: str, number: int | None) -> Execution:
    """The execution as it is for the device, whether the engine has come to it yet or not."""
    if job.status is JobStatus.DELETION_IN_PROGRESS:
        raise ExecutionNotFound(job.job_id, thing, number)
    found = rows.find_execution(connection, job, thing, number)
    if job.status is JobStatus.CANCELED and (
        found.status is Status.QUEUED or (found.pending and job.force_canceled)
    ):
        return states.cancel(found, job.updated_at, force=True)
    return found


def _work(connection: Connection, execution: Execution, with_document: bool) -> Work:
    if not with_document:
        return Work(execution, None)
    return Work(execution, str(connection.execute(_DOCUMENT, {"id": execution.job_id}).scalar_one()))
