"""Fleets, jobs and an engine for tests of jobs."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from broker_bridge.jobs.engine import Engine
from broker_bridge.jobs.execution import Execution, Status
from broker_bridge.jobs.job import COUNTS, Job
from broker_bridge.registry.jobs.tables import GONE, executions, job_waiting
from broker_bridge.registry.registry import Registry

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Fleet:
    """A registry with its engine and a clock that stands still unless it is moved."""

    def __init__(self, registry: Registry, now: datetime = NOON) -> None:
        self.now = now
        self.use(registry)

    def use(self, registry: Registry) -> None:
        """Goes on with that registry, as a service that starts does."""
        self.registry = registry
        self.jobs = registry.jobs
        self.devices = registry.device_jobs
        self.engine = Engine(registry.jobs, registry.job_steps)
        self.engine.start(self.now)

    def group(self, name: str, *things: str, parent: str | None = None) -> None:
        """A group with those things, made where they are not there."""
        self.registry.thing_groups.create(
            name, parent=parent, description=None, attributes={}, tags={}, now=self.now
        )
        for thing in things:
            self.things(thing)
            self.registry.thing_groups.change(thing, join=[name])

    def things(self, *names: str) -> None:
        """Those things."""
        for name in names:
            self.registry.things.create(name, type_name=None, attributes={})

    def job(
        self,
        job_id: str = "job",
        *,
        things: Sequence[str] = (),
        groups: Sequence[str] = (),
        continuous: bool = False,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        settle: bool = True,
    ) -> Job:
        """A new job, rolled out as far as it may be at once."""
        self.jobs.create(
            job_id,
            things=things,
            groups=groups,
            continuous=continuous,
            document=json.dumps({"job": job_id}),
            document_source=None,
            description=None,
            config_text=json.dumps(config or {}),
            tags=tags or {},
            now=self.now,
        )
        if settle:
            self.settle()
        return self.jobs.get(job_id)

    def settle(self) -> datetime:
        """Runs the engine until nothing is due; returns when something is again."""
        for _ in range(10000):
            due = self.engine.run(self.now)
            if due > self.now:
                return due
        raise AssertionError("the engine never comes to rest")

    def wait(self, time: timedelta) -> None:
        """Lets time pass, the engine running whenever it asked to."""
        end = self.now + time
        while (due := self.settle()) <= end:
            self.now = due
        self.now = end

    def report(self, thing: str, status: str, job_id: str = "job", **more: Any) -> Execution:
        """A report of a device."""
        return self.devices.update(thing, job_id, Status(status), self.now, **more).execution

    def states(self, job_id: str = "job") -> dict[str, str]:
        """The latest state of each thing that the job has reached."""
        page = self.jobs.executions_of_job(job_id, limit=10**6)
        return {execution.thing: str(execution.status) for execution in page.items}

    def next_job(self, thing: str) -> str | None:
        """The job of the thing's next execution."""
        work = self.devices.describe(thing, "$next", with_document=False)
        return None if work is None else work.execution.job_id

    def told(self) -> dict[str, tuple[bool, bool]]:
        """Who was to be told what (that the next execution, that the list is another); they are told now."""
        due = self.registry.job_steps.notices("", 10**6)
        self.registry.job_steps.announced(due, self.now)
        return {notice.thing: (notice.next_changes > 0, notice.list_changes > 0) for notice in due}


def recount(registry: Registry, job: Job) -> tuple[dict[str, int], int]:
    """What the job should count, read from every execution; and how many things wait."""
    with registry._database.reading() as connection:
        chosen = select(executions).where(executions.c.job_number == job.number)
        latest: dict[str, str] = {}
        for row in connection.execute(chosen.order_by(executions.c.execution_number)):
            if row.status != GONE:
                latest[row.thing_name] = row.status
        counts = dict.fromkeys(COUNTS, 0)
        for status in latest.values():
            counts[status.lower()] += 1
        waiting = select(func.count()).where(job_waiting.c.job_number == job.number)
        return counts, connection.execute(waiting).scalar_one()
