"""Jobs as devices see them over HTTP: a real boto3 client of `iot-jobs-data` against the running API."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker_bridge.jobs.job import Job
from tests.api.conforming import Step, check_calls, check_complete
from tests.api.engine import settle
from tests.api.operations import JOBS_DATA
from tests.api.running import Running, arn, refused

DOCUMENT = '{ "do" : "it", "at": 1.5, "ü": "\\u00fc" }'


class Fleet:
    """Jobs for things of their own, and the two clients."""

    def __init__(self, api: Running) -> None:
        self.api = api
        self.iot = api.client()
        self.device = api.client(service="iot-jobs-data")
        self.lax = api.client(service="iot-jobs-data", validate=False)

    def thing(self) -> str:
        name = f"t:{uuid.uuid4()}"
        self.iot.create_thing(thingName=name)
        return name

    def job(self, *things: str, **more: Any) -> str:
        """A job, rolled out."""
        job_id = f"j-{uuid.uuid4()}"
        targets = [arn(thing, "thing") for thing in things]
        self.iot.create_job(jobId=job_id, targets=targets, document=DOCUMENT, **more)
        settle(self.api)
        return job_id


@pytest.fixture(scope="module")
def fleet(api: Running) -> Fleet:
    return Fleet(api)


def test_an_execution_from_its_queue_to_its_end(fleet: Fleet) -> None:
    device, thing = fleet.device, fleet.thing()
    before = int(time.time())
    job = fleet.job(thing, timeoutConfig={"inProgressTimeoutInMinutes": 7})
    pending = device.get_pending_job_executions(thingName=thing)
    (queued,) = pending["queuedJobs"]
    assert pending["inProgressJobs"] == []
    assert queued == {
        "jobId": job,
        "queuedAt": queued["queuedAt"],
        "lastUpdatedAt": queued["queuedAt"],
        "versionNumber": 1,
        "executionNumber": 1,
    }
    # Whole seconds since 1970: the model has them as integers here.
    assert type(queued["queuedAt"]) is int
    assert before <= queued["queuedAt"] <= time.time()

    begun = device.start_next_pending_job_execution(thingName=thing, statusDetails={"step": "1"})["execution"]
    assert begun == {
        "jobId": job,
        "thingName": thing,
        "status": "IN_PROGRESS",
        "statusDetails": {"step": "1"},
        "queuedAt": queued["queuedAt"],
        "startedAt": begun["startedAt"],
        "lastUpdatedAt": begun["startedAt"],
        "approximateSecondsBeforeTimedOut": begun["approximateSecondsBeforeTimedOut"],
        "versionNumber": 2,
        "executionNumber": 1,
        # Text, and as it was given to the byte.
        "jobDocument": DOCUMENT,
    }
    assert 300 < begun["approximateSecondsBeforeTimedOut"] <= 420
    again = device.start_next_pending_job_execution(thingName=thing, statusDetails={"step": "2"})["execution"]
    assert (again["versionNumber"], again["statusDetails"]) == (2, {"step": "1"})
    (going,) = device.get_pending_job_executions(thingName=thing)["inProgressJobs"]
    assert going["startedAt"] == begun["startedAt"]

    report = partial(device.update_job_execution, jobId=job, thingName=thing)
    answer = report(status="IN_PROGRESS", statusDetails={"step": "3"}, expectedVersion=2, executionNumber=1)
    assert set(answer) == {"ResponseMetadata"}
    answer = report(status="SUCCEEDED", includeJobExecutionState=True, includeJobDocument=True)
    assert answer["executionState"] == {
        "status": "SUCCEEDED",
        "statusDetails": {"step": "3"},
        "versionNumber": 4,
    }
    assert answer["jobDocument"] == DOCUMENT
    assert fleet.iot.describe_job(jobId=job)["job"]["status"] == "COMPLETED"
    empty = device.get_pending_job_executions(thingName=thing)
    assert (empty["inProgressJobs"], empty["queuedJobs"]) == ([], [])


def test_next_is_the_one_in_progress_and_then_the_oldest(fleet: Fleet) -> None:
    thing = fleet.thing()
    first, second = fleet.job(thing), fleet.job(thing)
    describe = partial(fleet.device.describe_job_execution, thingName=thing)

    def next_one() -> Any:
        return describe(jobId="$next")["execution"]["jobId"]

    assert next_one() == first
    fleet.device.update_job_execution(jobId=second, thingName=thing, status="IN_PROGRESS")
    assert next_one() == second
    fleet.device.update_job_execution(jobId=second, thingName=thing, status="FAILED")
    assert next_one() == first
    fleet.device.update_job_execution(jobId=first, thingName=thing, status="REJECTED")
    assert "execution" not in describe(jobId="$next")
    assert "execution" not in fleet.device.start_next_pending_job_execution(thingName=thing)


@pytest.mark.parametrize(("asked", "there"), [({}, True), ({"includeJobDocument": False}, False)])
def test_the_document_comes_unless_it_is_not_wanted(fleet: Fleet, asked: Any, there: bool) -> None:
    thing = fleet.thing()
    job = fleet.job(thing)
    for job_id in (job, "$next"):
        shown = fleet.device.describe_job_execution(jobId=job_id, thingName=thing, **asked)["execution"]
        assert ("jobDocument" in shown) is there


def test_a_try_is_asked_for_by_its_number(fleet: Fleet) -> None:
    thing = fleet.thing()
    retries = {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 1}]}
    job = fleet.job(thing, jobExecutionsRetryConfig=retries)
    fleet.device.update_job_execution(jobId=job, thingName=thing, status="FAILED")
    settle(fleet.api)
    describe = partial(fleet.device.describe_job_execution, jobId=job, thingName=thing)
    assert describe()["execution"]["executionNumber"] == 2
    assert describe(executionNumber=2)["execution"]["status"] == "QUEUED"
    assert refused(lambda: describe(executionNumber=1))[0] == "TerminalStateException"
    assert refused(lambda: describe(executionNumber=3))[0] == "ResourceNotFoundException"


def test_the_document_is_rendered_each_time_that_a_device_gets_it(tmp_path: Path) -> None:
    shown: list[str] = []

    def render(document: str, job: Job) -> str:
        shown.append(job.job_id)
        return f'{{"{len(shown)}":{document}}}'

    running = Running(tmp_path, render=render)
    try:
        fleet = Fleet(running)
        device, thing = fleet.device, fleet.thing()
        job = fleet.job(thing)
        first = device.start_next_pending_job_execution(thingName=thing)["execution"]["jobDocument"]
        assert first == f'{{"1":{DOCUMENT}}}'
        again = device.describe_job_execution(jobId=job, thingName=thing)["execution"]["jobDocument"]
        assert again == f'{{"2":{DOCUMENT}}}'
        device.describe_job_execution(jobId=job, thingName=thing, includeJobDocument=False)
        report = partial(device.update_job_execution, jobId=job, thingName=thing, status="IN_PROGRESS")
        assert "jobDocument" not in report()
        assert report(includeJobDocument=True)["jobDocument"] == f'{{"3":{DOCUMENT}}}'
        assert shown == [job] * 3
        assert fleet.iot.get_job_document(jobId=job)["document"] == DOCUMENT
    finally:
        running.close()


def test_a_step_timer_shows_and_ends(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 2, 3, 4, 5, 900000, UTC)]
    running = Running(tmp_path, clock=lambda: now[0])
    try:
        fleet = Fleet(running)
        thing = fleet.thing()
        job = fleet.job(thing)
        begin = fleet.device.start_next_pending_job_execution
        begun = begin(thingName=thing, stepTimeoutInMinutes=2)["execution"]
        assert (begun["startedAt"], begun["approximateSecondsBeforeTimedOut"]) == (1767323045, 120)
        now[0] += timedelta(seconds=59)
        shown = fleet.device.describe_job_execution(jobId=job, thingName=thing)["execution"]
        assert shown["approximateSecondsBeforeTimedOut"] == 61
        report = partial(fleet.device.update_job_execution, jobId=job, thingName=thing, status="IN_PROGRESS")
        report(stepTimeoutInMinutes=-1)
        shown = fleet.device.describe_job_execution(jobId=job, thingName=thing)["execution"]
        assert "approximateSecondsBeforeTimedOut" not in shown
        report(stepTimeoutInMinutes=1)
        now[0] += timedelta(minutes=1)
        settle(running)
        assert refused(lambda: fleet.device.describe_job_execution(jobId=job, thingName=thing))[:2] == (
            "TerminalStateException",
            f"the execution of job {job} has ended: it is TIMED_OUT",
        )
    finally:
        running.close()


_KEYS = st.text("abyzAZ019:_-", min_size=1, max_size=128)
_VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=1024)


@settings(max_examples=25)
@given(details=st.dictionaries(_KEYS, _VALUES, max_size=10))
@example(details={f"{i:0128}": "x" * 1024 for i in range(10)})
@example(details={})
def test_details_come_back_as_they_were(fleet: Fleet, details: dict[str, str]) -> None:
    thing = _reporting(fleet)
    (going,) = fleet.device.get_pending_job_executions(thingName=thing)["inProgressJobs"]
    answer = fleet.device.update_job_execution(
        jobId=going["jobId"],
        thingName=thing,
        status="IN_PROGRESS",
        statusDetails=details,
        expectedVersion=going["versionNumber"],
        includeJobExecutionState=True,
    )
    assert answer["executionState"]["statusDetails"] == details
    assert answer["executionState"]["versionNumber"] == going["versionNumber"] + 1
    shown = fleet.device.describe_job_execution(jobId="$next", thingName=thing)["execution"]
    assert shown["statusDetails"] == details


def _reporting(fleet: Fleet) -> str:
    """A thing that is in the middle of a job; made once."""
    name = "reporting"
    if not fleet.device.get_pending_job_executions(thingName=name)["inProgressJobs"]:
        fleet.iot.create_thing(thingName=name)
        fleet.job(name)
        fleet.device.start_next_pending_job_execution(thingName=name)
    return name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"status": "QUEUED"}, "status: QUEUED is none of FAILED, IN_PROGRESS, REJECTED, SUCCEEDED"),
        ({"status": "TIMED_OUT"}, "status: TIMED_OUT is none of"),
        ({"status": "DONE"}, "status: 'DONE' is none of"),
        ({"status": 1}, "status: it must be a string"),
        ({"statusDetails": {f"{i}": "v" for i in range(11)}}, "statusDetails: 11 entries are over"),
        ({"statusDetails": {"a b": "v"}}, "statusDetails's key 'a b': it does not match the pattern"),
        ({"statusDetails": {"a": ""}}, "statusDetails['a']: length 0 is under the minimum of 1"),
        ({"statusDetails": {"a": "x" * 1025}}, "statusDetails[a]: length 1025 is not within 1 and 1024"),
        ({"statusDetails": {"a": "\n"}}, "statusDetails['a']: it does not match the pattern"),
        ({"statusDetails": {"a": 1}}, "statusDetails['a']: it must be a string"),
        ({"stepTimeoutInMinutes": 0}, "stepTimeoutInMinutes: 0 is neither -1 nor within 1 and 10080"),
        ({"stepTimeoutInMinutes": 10081}, "stepTimeoutInMinutes: 10081 is neither"),
        ({"stepTimeoutInMinutes": 1.5}, "stepTimeoutInMinutes: it must be an integer"),
        ({"expectedVersion": "2"}, "expectedVersion: it must be an integer"),
        ({"executionNumber": 1 << 63}, "executionNumber: it must be an integer of 64 bits"),
        ({"includeJobDocument": "true"}, "includeJobDocument: it must be true or false"),
        ({"jobId": "a.b"}, "jobId: it does not match the pattern"),
        ({"jobId": "x" * 65}, "jobId: length 65 is over the maximum of 64"),
        ({"thingName": "a/b"}, "thingName: it does not match the pattern"),
    ],
)
def test_reports_that_cannot_be(fleet: Fleet, given: dict[str, Any], said: str) -> None:
    thing = _reporting(fleet)
    before = fleet.device.describe_job_execution(jobId="$next", thingName=thing)["execution"]
    request = {"jobId": before["jobId"], "thingName": thing, "status": "IN_PROGRESS"} | given
    code, message, status = refused(lambda: fleet.lax.update_job_execution(**request))
    assert (code, status) == ("InvalidRequestException", 400)
    assert message.startswith(said)
    after = fleet.device.describe_job_execution(jobId="$next", thingName=thing)["execution"]
    assert after["versionNumber"] == before["versionNumber"]


def test_next_takes_no_report(fleet: Fleet) -> None:
    # `PUT …/jobs/$next` begins the next job; a report names the job itself.
    code, message, _ = refused(
        lambda: fleet.lax.update_job_execution(jobId="$next", thingName=_reporting(fleet), status="FAILED")
    )
    assert (code, message.split(":")[0]) == ("InvalidRequestException", "jobId")


def test_a_thing_that_nobody_made_has_no_jobs(fleet: Fleet) -> None:
    device = fleet.device
    pending = device.get_pending_job_executions(thingName="nobody")
    assert (pending["inProgressJobs"], pending["queuedJobs"]) == ([], [])
    assert "execution" not in device.start_next_pending_job_execution(thingName="nobody")
    assert "execution" not in device.describe_job_execution(thingName="nobody", jobId="$next")


def test_ten_of_each_state_are_listed_the_oldest_first(fleet: Fleet) -> None:
    thing = fleet.thing()
    made = [fleet.job(thing) for _ in range(12)]
    pending = fleet.device.get_pending_job_executions(thingName=thing)
    assert [one["jobId"] for one in pending["queuedJobs"]] == made[:10]
    fleet.device.start_next_pending_job_execution(thingName=thing)
    pending = fleet.device.get_pending_job_executions(thingName=thing)
    assert [one["jobId"] for one in pending["inProgressJobs"]] == made[:1]
    assert [one["jobId"] for one in pending["queuedJobs"]] == made[1:11]


def test_commands_are_not_here(fleet: Fleet) -> None:
    arns = {"targetArn": arn("t", "thing"), "commandArn": arn("c", "command")}
    code, message, status = refused(lambda: fleet.device.start_command_execution(**arns))
    assert (code, status) == ("UnknownOperationException", 404)
    assert message == "StartCommandExecution of iot-jobs-data is not implemented by this service"


def prepared(api: Running) -> None:
    """Job `w` for thing `w`."""
    api.client().create_thing(thingName="w")
    for job in ("v", "w"):
        api.client().create_job(jobId=job, targets=[arn("w", "thing")], document="{}")
    settle(api)


DETAILS = {"statusDetails": {"k": "v"}, "stepTimeoutInMinutes": 9}
REPORT = {"status": "IN_PROGRESS", "includeJobExecutionState": True, "includeJobDocument": True, **DETAILS}
CALLS: list[Step] = [
    ("GetPendingJobExecutions", "GET", "/things/w/jobs", None, 200),
    prepared,
    ("GetPendingJobExecutions", "GET", "/things/w/jobs", None, 200),
    ("GetPendingJobExecutions", "GET", "/things/w.w/jobs", None, 400),
    ("DescribeJobExecution", "GET", "/things/w/jobs/$next", None, 200),
    ("DescribeJobExecution", "GET", "/things/w/jobs/%24next?includeJobDocument=false", None, 200),
    ("DescribeJobExecution", "GET", "/things/v/jobs/$next", None, 200),
    ("DescribeJobExecution", "GET", "/things/w/jobs/none", None, 404),
    ("DescribeJobExecution", "GET", "/things/w/jobs/$next$", None, 400),
    ("DescribeJobExecution", "GET", "/things/w/jobs/w?executionNumber=x", None, 400),
    ("StartNextPendingJobExecution", "PUT", "/things/w/jobs/$next", DETAILS, 200),
    ("StartNextPendingJobExecution", "PUT", "/things/w/jobs/%24next", None, 200),
    ("StartNextPendingJobExecution", "PUT", "/things/v/jobs/$next", {}, 200),
    ("StartNextPendingJobExecution", "PUT", "/things/w/jobs/$next", {"stepTimeoutInMinutes": 0}, 400),
    ("GetPendingJobExecutions", "GET", "/things/w/jobs", None, 200),
    ("DescribeJobExecution", "GET", "/things/w/jobs/v?executionNumber=1", None, 200),
    ("UpdateJobExecution", "POST", "/things/w/jobs/v", REPORT, 200),
    ("UpdateJobExecution", "POST", "/things/w/jobs/v", {**REPORT, "expectedVersion": 2}, 409),
    ("UpdateJobExecution", "POST", "/things/w/jobs/v", {"status": "FAILED", "expectedVersion": 3}, 200),
    ("UpdateJobExecution", "POST", "/things/w/jobs/v", {"status": "FAILED"}, 409),
    ("UpdateJobExecution", "POST", "/things/w/jobs/none", REPORT, 404),
    ("UpdateJobExecution", "POST", "/things/w/jobs/w", {}, 400),
    ("DescribeJobExecution", "GET", "/things/w/jobs/v", None, 410),
]


def test_answers_are_what_the_model_says(api: Running) -> None:
    check_calls(api, CALLS, "iot-jobs-data")


def test_every_operation_and_both_outcomes_are_among_them() -> None:
    check_complete(CALLS, JOBS_DATA, "iot-jobs-data")
