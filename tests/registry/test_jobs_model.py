"""Whatever is done to jobs in whatever order, what they count is what there is, and things know the next."""

import tempfile
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select

from broker_bridge.jobs import stages
from broker_bridge.jobs.errors import JobError
from broker_bridge.jobs.execution import FROM_DEVICE, JobStatus
from broker_bridge.jobs.job import Job
from broker_bridge.jobs.stages import PAUSED_TAG, STAGES_TAG
from broker_bridge.registry.errors import MembershipNotAllowed
from broker_bridge.registry.jobs import steps
from broker_bridge.registry.jobs.tables import executions
from broker_bridge.registry.registry import Registry
from tests.registry.job_making import MINUTE, Fleet, recount

THINGS = "abcde"
jobs = st.sampled_from(["j0", "j1"])
things = st.sampled_from(THINGS)
RATE = 2
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
"""Not to shrink what fails: that takes longer than a test may."""
configs = st.fixed_dictionaries(
    {},
    optional={
        "jobExecutionsRolloutConfig": st.just({"maximumPerMinute": RATE}),
        "timeoutConfig": st.just({"inProgressTimeoutInMinutes": 2}),
        "jobExecutionsRetryConfig": st.sampled_from(
            [
                {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 2}]},
                {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 1}]},
            ]
        ),
        "abortConfig": st.just(
            {
                "criteriaList": [
                    {
                        "failureType": "ALL",
                        "action": "CANCEL",
                        "thresholdPercentage": 75.0,
                        "minNumberOfExecutedThings": 3,
                    }
                ]
            }
        ),
    },
)

tags = st.fixed_dictionaries(
    {},
    optional={
        STAGES_TAG: st.sampled_from(["20@100/100", "30@50:1m/60@60:20s/100", "50@1/100@70"]),
        PAUSED_TAG: st.just(""),
    },
)


class JobsMachine(RuleBasedStateMachine):
    """Jobs under all that operators, devices and time do to them."""

    @initialize(config=configs, continuous=st.booleans(), tags=tags)
    def start(self, config: dict[str, Any], continuous: bool, tags: dict[str, str]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'registry.db'}"
        self.fleet = Fleet(Registry.open(self.url))
        self.fleet.group("up", "a", "b")
        self.fleet.group("down", "c", parent="up")
        self.fleet.things("d", "e")
        self.known: dict[str, tuple[str, int] | None] = dict.fromkeys(THINGS)
        # So that one cancellation, deletion or rollout takes several transactions.
        self.batch, steps.BATCH = steps.BATCH, 2
        self.fleet.job("j0", groups=["up"], things=["d"], continuous=continuous, config=config, tags=tags)

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            steps.BATCH = self.batch
            self.fleet.registry.close()
            self.folder.cleanup()

    def attempt(self, call: Any, *arguments: Any, **more: Any) -> None:
        """Does it, or is refused for a reason of the domain."""
        with suppress(JobError):
            call(*arguments, **more)

    @rule(
        job=jobs,
        direct=st.sets(things, max_size=2),
        group=st.sampled_from([(), ("up",), ("down",)]),
        continuous=st.booleans(),
        config=configs,
        tags=tags,
    )
    def create(
        self,
        job: str,
        direct: set[str],
        group: tuple[str, ...],
        continuous: bool,
        config: dict[str, Any],
        tags: dict[str, str],
    ) -> None:
        if direct or group:
            self.attempt(
                self.fleet.job,
                job,
                things=sorted(direct),
                groups=group,
                continuous=continuous,
                config=config,
                tags=tags,
            )

    @rule(job=jobs, tags=tags)
    def tag(self, job: str, tags: dict[str, str]) -> None:
        self.attempt(self.fleet.jobs.tagging.tag, job, tags)

    @rule(job=jobs, keys=st.sets(st.sampled_from([STAGES_TAG, PAUSED_TAG])))
    def untag(self, job: str, keys: set[str]) -> None:
        self.attempt(self.fleet.jobs.tagging.untag, job, keys)

    @rule(data=st.data(), status=st.sampled_from(sorted(FROM_DEVICE)), step=st.none() | st.just(1))
    def report(self, data: st.DataObject, status: str, step: int | None) -> None:
        pending = [
            execution
            for thing in THINGS
            for found in [self.fleet.devices.pending(thing)]
            for execution in (*found.in_progress, *found.queued)
        ]
        if pending:
            one = data.draw(st.sampled_from(pending))
            assert self.fleet.report(one.thing, status, one.job_id, step_minutes=step).status == status

    @rule(thing=things, job=jobs, status=st.sampled_from(sorted(FROM_DEVICE)))
    def report_of_anything(self, thing: str, job: str, status: str) -> None:
        self.attempt(self.fleet.report, thing, status, job)

    @rule()
    def all_begin(self) -> None:
        for thing in THINGS:
            self.fleet.devices.start_next(thing, self.fleet.now, step_minutes=1)

    @rule(job=jobs, force=st.booleans())
    def cancel(self, job: str, force: bool) -> None:
        self.attempt(self.fleet.jobs.cancel, job, self.fleet.now, force=force)

    @rule(job=jobs, force=st.booleans())
    def delete(self, job: str, force: bool) -> None:
        self.attempt(self.fleet.jobs.delete, job, self.fleet.now, force=force)

    @rule(job=jobs, thing=things, force=st.booleans())
    def cancel_execution(self, job: str, thing: str, force: bool) -> None:
        self.attempt(self.fleet.jobs.cancel_execution, job, thing, self.fleet.now, force=force)

    @rule(job=jobs, thing=things, number=st.integers(1, 3), force=st.booleans())
    def delete_execution(self, job: str, thing: str, number: int, force: bool) -> None:
        self.attempt(self.fleet.jobs.delete_execution, job, thing, number, self.fleet.now, force=force)

    @rule(thing=things, group=st.sampled_from(["up", "down"]), join=st.booleans())
    def move(self, thing: str, group: str, join: bool) -> None:
        try:
            groups = self.fleet.registry.thing_groups
            groups.change(thing, **{"join" if join else "leave": [group]})
        except MembershipNotAllowed:
            return
        self.fleet.jobs.follow(self.fleet.now, thing)

    @rule(thing=things)
    def replace_thing(self, thing: str) -> None:
        self.fleet.registry.things.delete(thing)
        self.fleet.jobs.follow(self.fleet.now)
        self.fleet.settle()
        assert self.fleet.next_job(thing) is None
        self.fleet.things(thing)

    @rule(seconds=st.sampled_from([1, 20, 90, 300]))
    def wait(self, seconds: int) -> None:
        self.fleet.wait(timedelta(seconds=seconds))

    @rule()
    def reopen(self) -> None:
        self.fleet.registry.close()
        self.fleet.use(Registry.open(self.url))

    @invariant()
    def whole(self) -> None:
        if not hasattr(self, "fleet"):
            return
        fleet = self.fleet
        assert fleet.settle() > fleet.now
        for job in fleet.jobs.list(limit=10).items:
            assert recount(fleet.registry, job) == (asdict(job.counts), job.waiting)
            assert job.status is not JobStatus.DELETION_IN_PROGRESS
            assert not job.concurrent or job.status is JobStatus.IN_PROGRESS
            if job.status is JobStatus.COMPLETED:
                assert not job.waiting
                assert not job.counts.pending
            elif job.status is JobStatus.CANCELED:
                assert not job.waiting
                assert not job.counts.queued
            elif not job.continuous:
                assert job.waiting or job.counts.pending, "or it is complete"
            if job.status is JobStatus.IN_PROGRESS and not job.paused:
                self.does_not_stand_still(job)
            if job.config.rollout.maximum is not None:
                self.keeps_to_its_rate(job.number)
        told = fleet.told()
        for thing in THINGS:
            work = fleet.devices.describe(thing, "$next", with_document=False)
            now = None if work is None else (work.execution.job_id, work.execution.number)
            said, _ = told.get(thing, (False, False))
            if not said:
                assert now == self.known[thing], "a device that is not told goes on with what it knows"
            self.known[thing] = now
            if work is not None:
                due = work.execution.due_at
                assert due is None or due > fleet.now

    def does_not_stand_still(self, job: Job) -> None:
        """What may be reached now, or a stage that soaks, has the engine come back."""
        seen = stages.of(job, self.fleet.now)
        if seen is None:
            room, again_at = job.waiting, None
        else:
            assert not seen.failed
            assert seen.place == job.place
            room, again_at = seen.room, seen.again_at
        if room or again_at is not None:
            assert job.due_at is not None
            assert again_at is None or job.due_at <= again_at

    def keeps_to_its_rate(self, number: int) -> None:
        with self.fleet.registry._database.reading() as connection:
            reached = select(executions.c.queued_at).where(
                executions.c.job_number == number,
                executions.c.failed_retries + executions.c.timed_out_retries == 0,
            )
            times = list(connection.execute(reached).scalars())
        for begin in times:
            assert sum(begin <= at < begin + MINUTE for at in times) <= RATE


JobsMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, phases=PHASES
)
TestJobs = JobsMachine.TestCase
