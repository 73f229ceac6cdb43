"""An execution, and the states that jobs and executions have (AWS: "Jobs and job execution states")."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class JobStatus(StrEnum):
    """The states of a job."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    DELETION_IN_PROGRESS = "DELETION_IN_PROGRESS"


class Status(StrEnum):
    """The states of an execution: a job on one thing."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    REMOVED = "REMOVED"
    CANCELED = "CANCELED"


PENDING = frozenset({Status.QUEUED, Status.IN_PROGRESS})
"""Not ended yet. From all other states nothing leads on."""
FROM_DEVICE = frozenset({Status.IN_PROGRESS, Status.SUCCEEDED, Status.FAILED, Status.REJECTED})
"""What a device may report, from QUEUED too: the first report need not be IN_PROGRESS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A job on one thing: its `number`-th try there, from 1."""

    job_id: str
    thing: str
    number: int
    status: Status
    version: int
    """From 1, and 1 more with each change."""
    details: Mapping[str, str] | None
    queued_at: datetime
    started_at: datetime | None = None
    updated_at: datetime
    failed_retries: int = 0
    timed_out_retries: int = 0
    """Tries of this job on this thing that ended so, and were followed by another that led to this one."""
    force_canceled: bool = False
    deadline: datetime | None = None
    """When the job's own timer (`timeoutConfig`) ends it."""
    step_deadline: datetime | None = None
    """When the timer that the device set ends it."""

    @property
    def pending(self) -> bool:
        """Whether it has not ended yet."""
        return self.status in PENDING

    @property
    def retry_attempt(self) -> int:
        """How many tries came before this one and were tried again."""
        return self.failed_retries + self.timed_out_retries

    @property
    def due_at(self) -> datetime | None:
        """When it times out: the earlier of both timers, since a step never outlasts the job's own."""
        return min((at for at in (self.deadline, self.step_deadline) if at is not None), default=None)

    def seconds_left(self, now: datetime) -> int | None:
        """Seconds until it times out, rounded up; 0 where that is due; None where no timer runs."""
        due = self.due_at
        if due is None:
            return None
        return max(0, -((now - due) // timedelta(seconds=1)))
