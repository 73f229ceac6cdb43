"""Which executions are tried again (`jobExecutionsRetryConfig`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broker_bridge.jobs.abort import FailureType
from broker_bridge.jobs.execution import Execution, Status

MAX_RETRIES = 10
"""Of one thing, for both kinds of failure together (AWS)."""


@dataclass(frozen=True, slots=True)
class Retries:
    """One entry of `criteriaList`: at most `number` retries after that failure. Never after REJECTED."""

    failure: FailureType
    number: int


def next_try(criteria: Sequence[Retries], ended: Execution, now: datetime) -> Execution | None:
    """The execution, queued, that follows one that failed; None where there is to be none."""
    if ended.status not in (Status.FAILED, Status.TIMED_OUT):
        return None
    used = {
        FailureType.FAILED: ended.failed_retries if ended.status is Status.FAILED else None,
        FailureType.TIMED_OUT: ended.timed_out_retries if ended.status is Status.TIMED_OUT else None,
        FailureType.ALL: ended.retry_attempt,
    }
    for criterion in criteria:
        count = used.get(criterion.failure)
        if count is not None and count < criterion.number:
            break
    else:
        return None
    return queued(
        ended.job_id,
        ended.thing,
        ended.number + 1,
        now,
        failed_retries=ended.failed_retries + (ended.status is Status.FAILED),
        timed_out_retries=ended.timed_out_retries + (ended.status is Status.TIMED_OUT),
    )


def queued(
    job_id: str,
    thing: str,
    number: int,
    now: datetime,
    *,
    failed_retries: int = 0,
    timed_out_retries: int = 0,
) -> Execution:
    """An execution as it begins."""
    return Execution(
        job_id=job_id,
        thing=thing,
        number=number,
        status=Status.QUEUED,
        version=1,
        details=None,
        queued_at=now,
        updated_at=now,
        failed_retries=failed_retries,
        timed_out_retries=timed_out_retries,
    )
