"""What happens to jobs by itself: rollouts, schedules, timers, retries, aborts, cancellation and deletion.

The engine has no state, no clock and no thread. Whoever runs it tells it the time, and again when it said
so, or when a change of jobs asked for it (`EngineDue`). What a service that was killed left over is due at
its next start.
"""

from datetime import datetime, timedelta

import structlog

from broker_bridge.jobs.errors import JobNotFound
from broker_bridge.registry.errors import RegistryUnavailable
from broker_bridge.registry.jobs.steps import JobSteps
from broker_bridge.registry.jobs.store import Jobs

log = structlog.get_logger("jobs")

MAX_JOBS = 20
"""Jobs that one run looks at; the others are looked at by the next."""
LONGEST_SLEEP = timedelta(hours=1)
"""A run is due at least so often: a clock that was set forward is noticed."""
SET_ASIDE = timedelta(minutes=1)
"""For how long a job is left alone at which a run stumbled."""


class Engine:
    """Runs the jobs of a registry."""

    def __init__(self, jobs: Jobs, steps: JobSteps) -> None:
        self._jobs = jobs
        self._steps = steps

    def start(self, now: datetime) -> None:
        """Once, when the service starts: makes up for changes of things and groups that jobs missed."""
        self._jobs.follow(now)

    def run(self, now: datetime) -> datetime:
        """Does a bounded part of what is due, in transactions of their own; returns when to run again.

        That is in the past, or now, where there is more to do. RegistryUnavailable: run again later.
        """
        if self._steps.time_out(now):
            return now
        for job_id in self._steps.due_jobs(now, MAX_JOBS):
            try:
                self._steps.step(job_id, now)
            except JobNotFound:
                # Its last part was done meanwhile.
                continue
            except RegistryUnavailable:
                raise
            except Exception:
                # A fault of ours. It stays the most overdue of all: without this it would stop the others.
                log.exception("a job cannot go on", job=job_id, again_in=SET_ASIDE.total_seconds())
                self._steps.put_off(job_id, now, now + SET_ASIDE)
        due = self._steps.next_due()
        return now + LONGEST_SLEEP if due is None else min(due, now + LONGEST_SLEEP)
