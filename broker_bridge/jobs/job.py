"""A job as the rules and the API see it."""

from dataclasses import dataclass, field, fields
from datetime import datetime

from broker_bridge.jobs import config
from broker_bridge.jobs.abort import Tally
from broker_bridge.jobs.execution import JobStatus, Status
from broker_bridge.jobs.rollout import Recent


@dataclass(slots=True)
class Counts:
    """Things by the state of their latest execution. Those that wait for one are in none of them."""

    queued: int = 0
    in_progress: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    rejected: int = 0
    removed: int = 0
    canceled: int = 0

    def move(self, before: Status | None, after: Status | None) -> None:
        """One thing went from `before` to `after`; None: it had, or has, no execution."""
        for status, by in ((before, -1), (after, 1)):
            if status is not None:
                name = status.lower()
                setattr(self, name, getattr(self, name) + by)

    @property
    def pending(self) -> int:
        """Things whose execution has not ended."""
        return self.queued + self.in_progress


COUNTS = tuple(member.name for member in fields(Counts))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rollout is among its stages (`jobs.stages`): all of it that has to be remembered."""

    stage: int | None = None
    """From 0. None: nobody looked since the job was given these stages."""
    passed_at: datetime | None = None
    """When that stage had passed: it soaks since."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a job is for: a thing, or all things in a group and below it. One of both."""

    thing: str | None = None
    group_path: str | None = None
    """As `registry.thing_groups` has it."""

    @property
    def group(self) -> str | None:
        """The group's name."""
        return None if self.group_path is None else self.group_path.split("/")[-2]


@dataclass(slots=True, kw_only=True)
class Job:
    """A job. Its document, which may be long, is not part of it."""

    number: int
    """Known inside alone."""
    job_id: str
    status: JobStatus
    continuous: bool
    description: str | None = None
    document_source: str | None = None
    config_text: str = "{}"
    """The configurations as JSON, by their names in AWS's model."""
    reason_code: str | None = None
    comment: str | None = None
    force_canceled: bool = False
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    counts: Counts = field(default_factory=Counts)
    waiting: int = 0
    """Things that it has not reached yet."""
    notified: int = 0
    """Things that it has reached."""
    recent: Recent = ()
    stopped: bool = False
    """Whether the end of its schedule is past: it takes up no thing any more."""
    tally: Tally = field(default_factory=Tally)
    due_at: datetime | None = None
    """When the engine is to look at it."""
    stages: str | None = None
    """Its stages, as its tag has them (`jobs.stages.parse`); None: it reaches all things alike."""
    paused: bool = False
    """Whether a tag holds it up: no further things are reached."""
    place: Place = Place()

    @property
    def config(self) -> config.Config:
        """What the rules need of its configurations."""
        return config.load(self.config_text)

    @property
    def concurrent(self) -> bool:
        """AWS's `isConcurrent`: it is reaching things, or canceling their executions."""
        if self.status is JobStatus.IN_PROGRESS:
            return self.waiting > 0
        return self.status is JobStatus.CANCELED and self.due_at is not None

    @property
    def finished(self) -> bool:
        """Whether a job in progress has nothing left to come."""
        return not (self.waiting or self.counts.pending) and (self.stopped or not self.continuous)
