"""DescribeJobExecution, GetPendingJobExecutions, StartNextPendingJobExecution, UpdateJobExecution.

A thing that nobody has made has no jobs, which is no error. Times are whole seconds since 1970.
"""

from broker_bridge.api.context import Context
from broker_bridge.jobs import showing
from broker_bridge.jobs.execution import Status


def describe_job_execution(
    context: Context,
    *,
    job_id: str,
    thing_name: str,
    include_job_document: bool = True,
    execution_number: int | None = None,
) -> dict[str, object]:
    """The thing's execution of the job, the latest without a number; of job `$next`, the thing's next one.

    With `$next` and nothing pending, `execution` is absent. ResourceNotFoundException; TerminalStateException
    for one that has ended.
    """
    work = context.registry.device_jobs.describe(
        thing_name, job_id, number=execution_number, with_document=include_job_document
    )
    return {} if work is None else {"execution": showing.execution(work, context.clock(), context.render)}


def get_pending_job_executions(context: Context, *, thing_name: str) -> dict[str, object]:
    """What is pending for the thing: the oldest first, at most ten in progress and ten queued."""
    return showing.pending(context.registry.device_jobs.pending(thing_name))


def start_next_pending_job_execution(
    context: Context,
    *,
    thing_name: str,
    status_details: dict[str, str] | None = None,
    step_timeout_in_minutes: int | None = None,
) -> dict[str, object]:
    """The thing's next execution, now in progress; without one, `execution` is absent.

    Details are taken up where it begins with this call. InvalidRequestException for over ten of them or one
    over 1,024 characters, and for minutes that are neither -1 (no timer) nor from 1 to 10,080.
    """
    now = context.clock()
    work = context.registry.device_jobs.start_next(
        thing_name, now, details=status_details, step_minutes=step_timeout_in_minutes
    )
    return {} if work is None else {"execution": showing.execution(work, now, context.render)}


def update_job_execution(
    context: Context,
    *,
    job_id: str,
    thing_name: str,
    status: str,
    status_details: dict[str, str] | None = None,
    step_timeout_in_minutes: int | None = None,
    expected_version: int | None = None,
    include_job_execution_state: bool = False,
    include_job_document: bool = False,
    execution_number: int | None = None,
) -> dict[str, object]:
    """Reports the state of the thing's execution, the latest without a number. Absent details stay.

    ResourceNotFoundException; InvalidStateTransitionException for one that has ended or is at another
    version; InvalidRequestException as StartNextPendingJobExecution, and for a state that no device reports.
    """
    work = context.registry.device_jobs.update(
        thing_name,
        job_id,
        Status(status),
        context.clock(),
        details=status_details,
        expected_version=expected_version,
        number=execution_number,
        step_minutes=step_timeout_in_minutes,
        with_document=include_job_document,
    )
    return {
        "executionState": showing.state(work.execution) if include_job_execution_state else None,
        "jobDocument": showing.document(work, context.render),
    }
