"""DescribeJobExecution … DeleteJobExecution: jobs on single things, as operators see them."""

from broker_bridge.api import paging
from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns
from broker_bridge.api.iot.errors import ResourceNotFoundException
from broker_bridge.jobs.execution import Execution, Status


def describe_job_execution(
    context: Context, *, job_id: str, thing_name: str, execution_number: int | None = None
) -> dict[str, object]:
    """The thing's execution of the job, the latest without a number. ResourceNotFoundException."""
    execution = context.registry.jobs.execution(job_id, thing_name, execution_number)
    return {
        "execution": {
            "jobId": execution.job_id,
            "status": str(execution.status),
            "forceCanceled": execution.force_canceled or None,
            "statusDetails": {"detailsMap": execution.details} if execution.details is not None else None,
            "thingArn": arns.arn(context, arns.THING, execution.thing),
            "queuedAt": execution.queued_at,
            "startedAt": execution.started_at,
            "lastUpdatedAt": execution.updated_at,
            "executionNumber": execution.number,
            "versionNumber": execution.version,
            "approximateSecondsBeforeTimedOut": execution.seconds_left(context.clock()),
        }
    }


def list_job_executions_for_job(
    context: Context,
    *,
    job_id: str,
    status: str | None = None,
    max_results: int = paging.PAGE,
    next_token: str | None = None,
) -> dict[str, object]:
    """A page of the job's executions by thing, each retry one of its own.

    ResourceNotFoundException; InvalidRequestException for a token not given out for the same parameters.
    """
    found, more = paging.turn(
        context.token_key,
        ("ListJobExecutionsForJob", job_id, status or ""),
        next_token,
        lambda after: context.registry.jobs.executions_of_job(
            job_id, status=None if status is None else Status(status), after=after, limit=max_results
        ),
    )
    summaries = [
        {
            "thingArn": arns.arn(context, arns.THING, execution.thing),
            "jobExecutionSummary": _summary(execution),
        }
        for execution in found
    ]
    return {"executionSummaries": summaries, **more}


def list_job_executions_for_thing(
    context: Context,
    *,
    thing_name: str,
    status: str | None = None,
    namespace_id: str | None = None,
    max_results: int = paging.PAGE,
    next_token: str | None = None,
    job_id: str | None = None,
) -> dict[str, object]:
    """A page of the thing's executions, those of the newest job first. Errors as ListJobExecutionsForJob."""
    if namespace_id is not None:
        return {"executionSummaries": []}
    found, more = paging.turn(
        context.token_key,
        ("ListJobExecutionsForThing", thing_name, status or "", job_id or ""),
        next_token,
        lambda after: context.registry.jobs.executions_of_thing(
            thing_name,
            status=None if status is None else Status(status),
            job_id=job_id,
            after=after,
            limit=max_results,
        ),
    )
    summaries = [
        {"jobId": execution.job_id, "jobExecutionSummary": _summary(execution)} for execution in found
    ]
    return {"executionSummaries": summaries, **more}


def cancel_job_execution(
    context: Context,
    *,
    job_id: str,
    thing_name: str,
    force: bool = False,
    expected_version: int | None = None,
    status_details: dict[str, str] | None = None,
) -> dict[str, object]:
    """Cancels the thing's execution; one in progress with `force` alone.

    ResourceNotFoundException, InvalidStateTransitionException, VersionConflictException,
    InvalidRequestException (over 10 details, or one over 1,024 characters).
    """
    context.registry.jobs.cancel_execution(
        job_id,
        thing_name,
        context.clock(),
        force=force,
        expected_version=expected_version,
        details=status_details,
    )
    return {}


def delete_job_execution(
    context: Context,
    *,
    job_id: str,
    thing_name: str,
    execution_number: int,
    force: bool = False,
    namespace_id: str | None = None,
) -> dict[str, object]:
    """Deletes an execution that has ended, or any with `force`; the job counts it no more.

    ResourceNotFoundException, InvalidStateTransitionException.
    """
    if namespace_id is not None:
        raise ResourceNotFoundException(f"jobId: there is no job {job_id} in namespace {namespace_id[:64]}")
    context.registry.jobs.delete_execution(job_id, thing_name, execution_number, context.clock(), force=force)
    return {}


def _summary(execution: Execution) -> dict[str, object]:
    return {
        "status": str(execution.status),
        "queuedAt": execution.queued_at,
        "startedAt": execution.started_at,
        "lastUpdatedAt": execution.updated_at,
        "executionNumber": execution.number,
        "retryAttempt": execution.retry_attempt,
    }
