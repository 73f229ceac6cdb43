"""What happened to jobs, for those who are to be told: `$aws/events/…` and the devices concerned."""

from dataclasses import dataclass
from datetime import datetime

from broker_bridge.jobs.execution import Execution
from broker_bridge.jobs.job import Job, Target


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that AWS publishes on `$aws/events/job/{jobId}/{operation}`."""

    operation: str
    """completed, canceled, cancellation_in_progress, deletion_in_progress or deleted."""
    job: Job
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class ExecutionEvent:
    """An execution ended: `$aws/events/jobExecution/{jobId}/{operation}`."""

    operation: str
    """succeeded, failed, rejected, canceled, timed_out, removed or deleted."""
    execution: Execution


@dataclass(frozen=True, slots=True)
class NextChanged:
    """Another execution, or none, is the thing's next one. `notices` has it until it was announced."""

    thing: str


@dataclass(frozen=True, slots=True)
class PendingChanged:
    """An execution was added to, or removed from, those pending for the thing."""

    thing: str


@dataclass(frozen=True, slots=True)
class EngineDue:
    """The engine has to look again at that time, perhaps sooner than it thought."""

    at: datetime


Event = JobEvent | ExecutionEvent | NextChanged | PendingChanged | EngineDue
