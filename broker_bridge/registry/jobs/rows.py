"""Between rows and what the rules work with."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select

from broker_bridge.jobs.abort import Tally
from broker_bridge.jobs.errors import ExecutionNotFound, JobNotFound
from broker_bridge.jobs.execution import Execution, JobStatus, Status
from broker_bridge.jobs.job import COUNTS, Counts, Job, Place
from broker_bridge.registry.jobs.tables import GONE, executions, jobs

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PLACES = {Status.IN_PROGRESS: 0, Status.QUEUED: 1}

JOB = select(*(column for column in jobs.columns if column is not jobs.c.document))
_FIELDS = (
    jobs.c.job_id,
    executions.c.thing_name,
    executions.c.execution_number,
    executions.c.status,
    executions.c.version,
    executions.c.details,
    executions.c.queued_at,
    executions.c.started_at,
    executions.c.updated_at,
    executions.c.failed_retries,
    executions.c.timed_out_retries,
    executions.c.force_canceled,
    executions.c.deadline,
    executions.c.step_deadline,
)
"""What `execution` unpacks, in this order: by name it takes four times as long, and devices' reports read
many."""
EXECUTION: Select[Any] = select(*_FIELDS, executions.c.job_number, executions.c.place).join_from(
    executions, jobs
)
THERE = executions.c.status != GONE
"""Which executions were not deleted."""

# Made once: to build a statement costs more than to run it, and devices' reports run these.
_JOB_OF_ID = JOB.where(jobs.c.job_id == bindparam("id")).with_for_update()
_OF_THING = EXECUTION.where(
    executions.c.job_number == bindparam("job"), executions.c.thing_name == bindparam("thing"), THERE
)
_NUMBERED = _OF_THING.where(executions.c.execution_number == bindparam("number"))
_LATEST = _OF_THING.order_by(executions.c.execution_number.desc()).limit(1)


def job(row: Row[Any]) -> Job:
    """From a row of JOB."""
    return Job(
        number=row.job_number,
        job_id=row.job_id,
        status=JobStatus(row.status),
        continuous=row.continuous,
        description=row.description,
        document_source=row.document_source,
        config_text=row.config,
        reason_code=row.reason_code,
        comment=row.comment,
        force_canceled=row.force_canceled,
        created_at=row.created_at,
        updated_at=row.updated_at,
        completed_at=row.completed_at,
        counts=Counts(*(row._mapping[name] for name in COUNTS)),
        waiting=row.waiting,
        notified=row.notified,
        recent=tuple((_EPOCH + at * _MILLISECOND, count) for at, count in json.loads(row.recent)),
        stopped=row.stopped,
        tally=Tally(
            row.tally_executed, row.tally_failed, row.tally_timed_out, row.tally_rejected, row.tally_any
        ),
        due_at=row.due_at,
        stages=row.stages,
        paused=row.paused,
        place=Place(row.stage, row.passed_at),
    )


def job_values(value: Job) -> dict[str, Any]:
    """A job's columns but for number, id and document."""
    tally = value.tally
    return {
        "status": value.status,
        "continuous": value.continuous,
        "description": value.description,
        "document_source": value.document_source,
        "config": value.config_text,
        "reason_code": value.reason_code,
        "comment": value.comment,
        "force_canceled": value.force_canceled,
        "created_at": value.created_at,
        "updated_at": value.updated_at,
        "completed_at": value.completed_at,
        **{name: getattr(value.counts, name) for name in COUNTS},
        "waiting": value.waiting,
        "notified": value.notified,
        "recent": json.dumps([((at - _EPOCH) // _MILLISECOND, count) for at, count in value.recent]),
        "stopped": value.stopped,
        "tally_executed": tally.executed,
        "tally_failed": tally.failed,
        "tally_timed_out": tally.timed_out,
        "tally_rejected": tally.rejected,
        "tally_any": tally.any,
        "due_at": value.due_at,
        "stages": value.stages,
        "paused": value.paused,
        "stage": value.place.stage,
        "passed_at": value.place.passed_at,
    }


def execution(row: Row[Any]) -> Execution:
    """From a row of EXECUTION."""
    (
        job_id,
        thing,
        number,
        status,
        version,
        details,
        queued_at,
        started_at,
        updated_at,
        failed_retries,
        timed_out_retries,
        force_canceled,
        deadline,
        step_deadline,
    ) = row[: len(_FIELDS)]
    return Execution(
        job_id=job_id,
        thing=thing,
        number=number,
        status=Status(status),
        version=version,
        details=None if details is None else json.loads(details),
        queued_at=queued_at,
        started_at=started_at,
        updated_at=updated_at,
        failed_retries=failed_retries,
        timed_out_retries=timed_out_retries,
        force_canceled=force_canceled,
        deadline=deadline,
        step_deadline=step_deadline,
    )


def execution_values(value: Execution) -> dict[str, Any]:
    """An execution's columns but for those that name it."""
    return {
        **changing_values(value),
        "queued_at": value.queued_at,
        "failed_retries": value.failed_retries,
        "timed_out_retries": value.timed_out_retries,
    }


def changing_values(value: Execution) -> dict[str, Any]:
    """Those of an execution's columns that may change."""
    return {
        "status": value.status,
        "place": _PLACES.get(value.status),
        "version": value.version,
        "details": None if value.details is None else _json(value.details),
        "started_at": value.started_at,
        "updated_at": value.updated_at,
        "force_canceled": value.force_canceled,
        "deadline": value.deadline,
        "step_deadline": value.step_deadline,
        "due_at": value.due_at,
    }


def find_job(connection: Connection, job_id: str) -> Job:
    """The job of that id. JobNotFound."""
    row = connection.execute(_JOB_OF_ID, {"id": job_id}).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return job(row)


def find_execution(connection: Connection, found: Job, thing: str, number: int | None) -> Execution:
    """The thing's execution of that job: that of that number, or the latest. ExecutionNotFound."""
    wanted = {"job": found.number, "thing": thing}
    if number is None:
        row = connection.execute(_LATEST, wanted).one_or_none()
    else:
        row = connection.execute(_NUMBERED, {**wanted, "number": number}).one_or_none()
    if row is None:
        raise ExecutionNotFound(found.job_id, thing, number)
    return execution(row)


def _json(details: Mapping[str, str]) -> str:
    return json.dumps(details, ensure_ascii=False, separators=(",", ":"))
