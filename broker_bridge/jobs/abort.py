"""When a job is to be stopped because too many things fail (`abortConfig`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from broker_bridge.jobs.execution import Execution, Status


class FailureType(StrEnum):
    """The failures that a criterion counts."""

    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    ALL = "ALL"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One entry of `criteriaList`: stop when at least `percentage` % of those that executed failed so."""

    failure: FailureType
    percentage: float
    least: int
    """Things that must have executed the job before it is looked at (`minNumberOfExecutedThings`)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Things that executed the job, and those among them that failed. Each counts once, retried or not.

    "Executed" are those that came to an end of their first try by themselves or by a timer; not those that
    were canceled or removed. A failure counts when it happens, also where the job is retried, since a retry
    that fails again and again is what the criteria are to stop (AWS's guide, "Retry and abort").
    """

    executed: int = 0
    failed: int = 0
    timed_out: int = 0
    rejected: int = 0
    any: int = 0


def counted(tally: Tally, ended: Execution) -> Tally:
    """The tally after this execution ended."""
    if ended.status not in (Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT, Status.REJECTED):
        return tally
    first = ended.retry_attempt == 0
    return Tally(
        executed=tally.executed + first,
        failed=tally.failed + (ended.status is Status.FAILED and ended.failed_retries == 0),
        timed_out=tally.timed_out + (ended.status is Status.TIMED_OUT and ended.timed_out_retries == 0),
        rejected=tally.rejected + (ended.status is Status.REJECTED),
        any=tally.any + (first and ended.status is not Status.SUCCEEDED),
    )


def met(criteria: Sequence[Criterion], tally: Tally) -> Criterion | None:
    """The first criterion that says to stop, or None."""
    failures = {
        FailureType.FAILED: tally.failed,
        FailureType.TIMED_OUT: tally.timed_out,
        FailureType.REJECTED: tally.rejected,
        # Rejected after a retry: that thing is among `any` already.
        FailureType.ALL: tally.any,
    }
    for criterion in criteria:
        count = failures[criterion.failure]
        if (
            count
            and tally.executed >= criterion.least
            and count * 100 >= criterion.percentage * tally.executed
        ):
            return criterion
    return None
