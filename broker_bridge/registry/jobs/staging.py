"""Stages of a job within a change of it: what the engine asks, and what reports of devices set off."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from broker_bridge.jobs import stages
from broker_bridge.jobs.execution import Execution, Status
from broker_bridge.jobs.job import Job

if TYPE_CHECKING:
    from broker_bridge.registry.jobs.ledger import Change

FAILED = "STAGE_FAILED"
"""`reasonCode` of a job that a stage stopped."""


@dataclass(frozen=True, slots=True)
class Leave:
    """How many things a job in progress may reach now as far as stages go, and when to look again."""

    room: int
    again_at: datetime | None = None


def proceed(change: "Change", job: Job) -> Leave | None:
    """Where the job's stages are now, noted in the job. None where one failed: the job is canceled."""
    if job.stages is None or job.stopped:
        return Leave(job.waiting)
    plan = stages.parse(job.stages)
    seen = stages.look(plan, job.place, job.counts, job.waiting, change.now)
    if seen.failed:
        _stop(change, job, plan, seen)
        return None
    if seen.place != job.place:
        job.place = seen.place
        job.comment = stages.told(plan, seen, job.counts)
        job.updated_at = change.now
        change.save(job)
    return Leave(seen.room, seen.again_at)


def ended(change: "Change", job: Job, execution: Execution) -> None:
    """An execution of the job in progress came to an end: stops the job whose stage fails by it at once, and
    has the engine look where something begins by it. All others cost the engine nothing."""
    if job.stages is None:
        return
    plan = stages.parse(job.stages)
    seen = stages.look(plan, job.place, job.counts, job.waiting, change.now)
    if seen.failed:
        _stop(change, job, plan, seen)
    elif seen.place != job.place or execution.status in (Status.REMOVED, Status.CANCELED):
        change.wake(job)


def _stop(change: "Change", job: Job, plan: stages.Plan, seen: stages.View) -> None:
    job.place = seen.place
    change.cancel(job, reason_code=FAILED, comment=stages.told(plan, seen, job.counts))
