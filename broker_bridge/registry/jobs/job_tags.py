"""Tags of jobs: those that say how a job is rolled out take effect with the change itself."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from broker_bridge.jobs import stages
from broker_bridge.jobs.execution import JobStatus
from broker_bridge.jobs.job import Job, Place
from broker_bridge.registry.jobs import rows
from broker_bridge.registry.jobs.ledger import Change, Ledger
from broker_bridge.registry.jobs.tables import job_tags
from broker_bridge.registry.tagging import Tags

TAGS = Tags(job_tags, "job")


class JobTagging:
    """As `tagging.Tagging`, for jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def tag(self, job_id: str, tags: Mapping[str, str]) -> None:
        """Adds the tags; one whose key is there already gets the new value. JobNotFound, TooManyTags.

        Values are those that `stages.check_tag` takes.
        """
        with self._ledger.changing(datetime.now(UTC)) as change:
            job = change.job(job_id)
            TAGS.add(change.connection, job_id, tags)
            _heed(change, job)

    def untag(self, job_id: str, keys: Iterable[str]) -> None:
        """Removes the tags of those keys, where they are there. JobNotFound."""
        with self._ledger.changing(datetime.now(UTC)) as change:
            job = change.job(job_id)
            TAGS.remove(change.connection, job_id, keys)
            _heed(change, job)

    def tags(self, job_id: str) -> dict[str, str]:
        """The job's tags, by key. JobNotFound."""
        with self._ledger.reading() as connection:
            rows.find_job(connection, job_id)
            return TAGS.all(connection, job_id)


def _heed(change: Change, job: Job) -> None:
    plan, paused = stages.of_tags(TAGS.all(change.connection, job.job_id))
    if (plan, paused) == (job.stages, job.paused):
        return
    if plan != job.stages:
        job.stages, job.place = plan, Place()
    job.paused = paused
    change.save(job)
    if job.status in (JobStatus.IN_PROGRESS, JobStatus.SCHEDULED):
        # Due since then: by whichever clock the engine goes, that is past.
        change.wake(job, job.created_at)
