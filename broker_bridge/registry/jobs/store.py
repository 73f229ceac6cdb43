"""Jobs as operators make, change and look at them. A registry has one, `Registry.jobs`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from broker_bridge.jobs import stages, states
from broker_bridge.jobs.errors import (
    ExecutionNotFound,
    InvalidJob,
    InvalidJobState,
    InvalidTransition,
    JobExists,
    TooManyJobs,
)
from broker_bridge.jobs.execution import Execution, JobStatus, Status
from broker_bridge.jobs.job import Job, Target
from broker_bridge.jobs.schedule import check_ahead
from broker_bridge.registry import schema
from broker_bridge.registry.errors import ThingGroupNotFound, ThingNotFound
from broker_bridge.registry.jobs import membership, rows
from broker_bridge.registry.jobs.job_tags import TAGS, JobTagging
from broker_bridge.registry.jobs.ledger import Change, Ledger
from broker_bridge.registry.jobs.tables import GONE, executions, job_targets, jobs
from broker_bridge.registry.pages import Page, check_limit, page

MAX_TARGETS = 100
"""Targets of a job (AWS)."""
MAX_DELETING = 10
"""Jobs that are being deleted at one time (AWS)."""


class Jobs:
    """The jobs of a registry. Its calls block, and may come from several threads at once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.tagging = JobTagging(ledger)

    def create(
        self,
        job_id: str,
        *,
        things: Sequence[str],
        groups: Sequence[str],
        continuous: bool,
        document: str,
        document_source: str | None,
        description: str | None,
        config_text: str,
        tags: Mapping[str, str],
        now: datetime,
    ) -> Job:
        """A new job, in progress with all its targets waiting for it, or scheduled.

        JobExists; ThingNotFound and ThingGroupNotFound; InvalidJob for too many targets, or a schedule that
        AWS would not take now; TooManyTags.
        """
        plan, paused = stages.of_tags(tags)
        with self._ledger.changing(now) as change:
            values = {
                "job_id": job_id,
                "document": document,
                **rows.job_values(
                    Job(
                        number=0,
                        job_id=job_id,
                        status=JobStatus.SCHEDULED,
                        continuous=continuous,
                        description=description,
                        document_source=document_source,
                        config_text=config_text,
                        created_at=now,
                        updated_at=now,
                        stages=plan,
                        paused=paused,
                    )
                ),
            }
            try:
                change.connection.execute(insert(jobs), values)
            except IntegrityError as error:
                raise JobExists(job_id) from error
            job = change.job(job_id)
            schedule = job.config.schedule
            check_ahead(schedule, now)
            _add_targets(change.connection, job, things, groups)
            TAGS.add(change.connection, job_id, tags)
            opens = schedule.opens_at(now)
            if opens is None:
                raise InvalidJob("schedulingConfig.maintenanceWindows: none of them ever comes")
            if opens > now:
                change.wake(job, opens)
            else:
                begin(change, job)
        return job

    def get(self, job_id: str) -> Job:
        """The job as it is now. JobNotFound."""
        with self._ledger.reading() as connection:
            return rows.find_job(connection, job_id)

    def document(self, job_id: str) -> str:
        """The job's document. JobNotFound."""
        with self._ledger.reading() as connection:
            rows.find_job(connection, job_id)
            chosen = select(jobs.c.document).where(jobs.c.job_id == job_id)
            return str(connection.execute(chosen).scalar_one())

    def targets(self, job_id: str) -> list[Target]:
        """The job's targets. JobNotFound."""
        with self._ledger.reading() as connection:
            return membership.targets(connection, rows.find_job(connection, job_id))

    def list(
        self,
        *,
        status: JobStatus | None = None,
        continuous: bool | None = None,
        group: str | None = None,
        group_id: str | None = None,
        after: str | None = None,
        limit: int,
    ) -> Page[Job]:
        """Jobs, the newest first, at most `limit` (>= 1). `group` and `group_id`: of which that
        thing group is a target.

        `after` is another page's. ThingGroupNotFound.
        """
        check_limit(limit)
        chosen = rows.JOB.order_by(jobs.c.job_number.desc()).limit(limit + 1)
        if status is not None:
            chosen = chosen.where(jobs.c.status == status)
        if continuous is not None:
            chosen = chosen.where(jobs.c.continuous == continuous)
        if after is not None:
            chosen = chosen.where(jobs.c.job_number < int(after))
        with self._ledger.reading() as connection:
            if group is not None or group_id is not None:
                path = _path(connection, group, group_id)
                aimed = select(job_targets.c.job_number).where(job_targets.c.group_path == path)
                chosen = chosen.where(jobs.c.job_number.in_(aimed))
            found = [rows.job(row) for row in connection.execute(chosen)]
        return page(found, limit, lambda job: str(job.number))

    def update(
        self, job_id: str, now: datetime, *, description: str | None, change_config: Callable[[str], str]
    ) -> None:
        """Changes what may be changed of a job that has not ended. JobNotFound, InvalidJobState.

        `change_config` makes the new configurations from the old ones. Timers that run keep their length.
        """
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            if job.status not in (JobStatus.IN_PROGRESS, JobStatus.SCHEDULED):
                raise InvalidJobState(job_id, job.status, "changed")
            if description is not None:
                job.description = description
            job.config_text = change_config(job.config_text)
            job.updated_at = now
            change.wake(job)

    def associate(self, job_id: str, groups: Sequence[str], now: datetime, *, comment: str | None) -> Job:
        """Adds groups to the targets of a continuous job; one that is a target already does no harm.

        JobNotFound, ThingGroupNotFound, InvalidJobState unless it is in progress, InvalidJob unless it is
        continuous, TooManyJobs over MAX_TARGETS.
        """
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            if not job.continuous:
                raise InvalidJob(f"jobId: job {job_id} is a snapshot: it takes no further targets")
            if job.status is not JobStatus.IN_PROGRESS or job.stopped:
                raise InvalidJobState(job_id, job.status, "given further targets")
            _add_targets(change.connection, job, (), groups)
            if comment is not None:
                job.comment = comment
            job.updated_at = now
            change.save(job)
            membership.take_up(change, job)
        return job

    def cancel(
        self,
        job_id: str,
        now: datetime,
        *,
        reason_code: str | None = None,
        comment: str | None = None,
        force: bool = False,
    ) -> Job:
        """Cancels the job and its queued executions; with `force` those in progress too.

        It takes effect at once; the executions' own states follow, as the engine comes to them. A canceled
        job may be canceled again with `force`. JobNotFound, InvalidJobState.
        """
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            again = job.status is JobStatus.CANCELED and force and not job.force_canceled
            if job.status not in (JobStatus.IN_PROGRESS, JobStatus.SCHEDULED) and not again:
                raise InvalidJobState(job_id, job.status, "canceled")
            change.cancel(job, reason_code=reason_code, comment=comment, force=force)
        return job

    def delete(self, job_id: str, now: datetime, *, force: bool = False) -> None:
        """Begins to delete the job: devices no longer see it, and the engine removes what there is of it.

        JobNotFound; InvalidJobState unless it has ended or `force`; TooManyJobs over MAX_DELETING.
        """
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            ended = job.status in (JobStatus.COMPLETED, JobStatus.CANCELED)
            if job.status is JobStatus.DELETION_IN_PROGRESS or not (ended or force):
                raise InvalidJobState(job_id, job.status, "deleted")
            deleting = select(func.count()).where(jobs.c.status == JobStatus.DELETION_IN_PROGRESS)
            if change.connection.execute(deleting).scalar_one() >= MAX_DELETING:
                raise TooManyJobs(f"{MAX_DELETING} jobs are being deleted, the maximum; try again")
            job.status = JobStatus.DELETION_IN_PROGRESS
            job.updated_at = now
            change.drop_waiting(job)
            change.tell("deletion_in_progress", job)
            change.wake(job)

    def execution(self, job_id: str, thing: str, number: int | None = None) -> Execution:
        """The thing's execution of the job, the latest without `number`. JobNotFound, ExecutionNotFound."""
        with self._ledger.reading() as connection:
            return rows.find_execution(connection, rows.find_job(connection, job_id), thing, number)

    def executions_of_job(
        self, job_id: str, *, status: Status | None = None, after: str | None = None, limit: int
    ) -> Page[Execution]:
        """The job's executions, retries too, by thing and number, at most `limit` (>= 1). JobNotFound."""
        check_limit(limit)
        thing, number = executions.c.thing_name, executions.c.execution_number
        with self._ledger.reading() as connection:
            job = rows.find_job(connection, job_id)
            chosen = rows.EXECUTION.where(executions.c.job_number == job.number)
            chosen = chosen.where(rows.THERE if status is None else executions.c.status == status)
            if after is not None:
                name, _, last = after.rpartition("/")
                chosen = chosen.where(
                    (thing > name) | ((thing == name) & (number > int(last))), thing >= name
                )
            found = connection.execute(chosen.order_by(thing, number).limit(limit + 1))
            every = [rows.execution(row) for row in found]
        return page(every, limit, lambda one: f"{one.thing}/{one.number}")

    def executions_of_thing(
        self,
        thing: str,
        *,
        status: Status | None = None,
        job_id: str | None = None,
        after: str | None = None,
        limit: int,
    ) -> Page[Execution]:
        """The thing's executions, those of the newest job first, at most `limit` (>= 1).

        ThingNotFound, JobNotFound.
        """
        check_limit(limit)
        job, number = executions.c.job_number, executions.c.execution_number
        chosen = rows.EXECUTION.where(executions.c.thing_name == thing)
        chosen = chosen.where(rows.THERE if status is None else executions.c.status == status)
        if after is not None:
            first, _, last = after.partition("/")
            chosen = chosen.where((job < int(first)) | ((job == int(first)) & (number > int(last))))
        with self._ledger.reading() as connection:
            _check_things(connection, [thing])
            if job_id is not None:
                chosen = chosen.where(job == rows.find_job(connection, job_id).number)
            found = connection.execute(chosen.order_by(job.desc(), number).limit(limit + 1)).all()
        numbered = page(found, limit, lambda row: f"{row.job_number}/{row.execution_number}")
        return Page([rows.execution(row) for row in numbered.items], numbered.after)

    def cancel_execution(
        self,
        job_id: str,
        thing: str,
        now: datetime,
        *,
        force: bool = False,
        expected_version: int | None = None,
        details: Mapping[str, str] | None = None,
    ) -> Execution:
        """Cancels the thing's latest execution; one in progress with `force` alone.

        JobNotFound, ExecutionNotFound, VersionMismatch, InvalidTransition, InvalidJob.
        """
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            found = rows.find_execution(change.connection, job, thing, None)
            canceled = states.cancel(
                found, now, force=force, details=details, expected_version=expected_version
            )
            change.write(job, found, canceled)
        return canceled

    def delete_execution(
        self, job_id: str, thing: str, number: int, now: datetime, *, force: bool = False
    ) -> None:
        """Deletes an execution that has ended, or any with `force`; the job counts it no more.

        What abort criteria have seen of it stays seen, and its number is not used again. JobNotFound,
        ExecutionNotFound, InvalidTransition.
        """
        with self._ledger.changing(now) as change:
            job = change.job(job_id)
            found = rows.find_execution(change.connection, job, thing, number)
            if found.pending and not force:
                raise InvalidTransition(found, "deleted")
            latest = rows.find_execution(change.connection, job, thing, None).number
            mine = (
                (executions.c.job_number == job.number)
                & (executions.c.thing_name == thing)
                & (executions.c.execution_number == number)
            )
            nothing = {"status": GONE, "place": None, "due_at": None, "details": None}
            change.connection.execute(executions.update().where(mine).values(nothing))
            try:
                before = rows.find_execution(change.connection, job, thing, None)
            except ExecutionNotFound:
                before = None
            change.gone(job, found, before, latest == number)

    def follow(self, now: datetime, thing: str | None = None) -> None:
        """Has jobs keep up with their targets: after the thing, or its groups, changed.

        Without a thing: all jobs with all things, for the start of a service and for changes of groups.
        """
        if thing is None:
            with self._ledger.reading() as connection:
                chosen = select(jobs.c.job_id).where(membership.FOLLOWING)
                found: Iterable[str] = connection.execute(chosen.order_by(jobs.c.job_number)).scalars().all()
        else:
            with self._ledger.reading() as connection:
                found = membership.concerned(connection, thing)
        for job_id in found:
            more = True
            while more:
                with self._ledger.changing(now) as change:
                    job = change.job(job_id)
                    if job.status not in (JobStatus.IN_PROGRESS, JobStatus.CANCELED):
                        break
                    more = membership.let_go(change, job, thing)
                    if job.continuous and not job.stopped and job.status is JobStatus.IN_PROGRESS:
                        membership.take_up(change, job, thing)


def begin(change: Change, job: Job) -> None:
    """The job's rollout begins: its targets wait for it."""
    job.status = JobStatus.IN_PROGRESS
    # The engine looks at once, if only to learn when the schedule ends.
    change.wake(job)
    membership.take_up(change, job)


def _add_targets(connection: Connection, job: Job, things: Sequence[str], groups: Sequence[str]) -> None:
    there = membership.targets(connection, job)
    _check_things(connection, things)
    new = [Target(thing=thing) for thing in things]
    new += [Target(group_path=_path(connection, group)) for group in groups]
    # Each once, in the order given.
    wanted = [target for target in dict.fromkeys(new) if target not in there]
    count = len(there) + len(wanted)
    if count > MAX_TARGETS:
        raise TooManyJobs(f"targets: {count} are over the maximum of {MAX_TARGETS}")
    if wanted:
        connection.execute(
            insert(job_targets),
            [
                {
                    "job_number": job.number,
                    "position": position,
                    "thing_name": target.thing,
                    "group_path": target.group_path,
                }
                for position, target in enumerate(wanted, len(there))
            ],
        )


def _check_things(connection: Connection, names: Sequence[str]) -> None:
    column = schema.things.c.thing_name
    there = set(connection.execute(select(column).where(column.in_(names))).scalars())
    for name in names:
        if name not in there:
            raise ThingNotFound(name)


def _path(connection: Connection, group: str | None, group_id: str | None = None) -> str:
    """The path of the group of that name, or id, or both."""
    groups = schema.thing_groups
    chosen = select(groups.c.path)
    if group is not None:
        chosen = chosen.where(groups.c.thing_group_name == group)
    if group_id is not None:
        chosen = chosen.where(groups.c.thing_group_id == group_id)
    path = connection.execute(chosen).scalar()
    if path is None:
        raise ThingGroupNotFound(group or group_id or "")
    return str(path)
