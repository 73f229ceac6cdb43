"""Jobs by hand: answers held against the model."""

from datetime import UTC, datetime, timedelta

import pytest

from broker_bridge.jobs.execution import Status
from tests.api.conforming import Step, check_calls, check_complete
from tests.api.engine import settle
from tests.api.operations import IOT
from tests.api.running import ACCOUNT, REGION, ROLE, Running

ARN = f"arn:aws:iot:{REGION}:{ACCOUNT}:"
START = datetime.now(UTC) + timedelta(days=1)
CREATE = {
    "targets": [ARN + "thing/w", ARN + "thinggroup/wired"],
    "document": "{}",
    "description": "d",
    "presignedUrlConfig": {"roleArn": ROLE, "expiresInSec": 3600},
    "targetSelection": "CONTINUOUS",
    "jobExecutionsRolloutConfig": {
        "maximumPerMinute": 1000,
        "exponentialRate": {
            "baseRatePerMinute": 600,
            "incrementFactor": 2,
            "rateIncreaseCriteria": {"numberOfNotifiedThings": 1},
        },
    },
    "abortConfig": {
        "criteriaList": [
            {
                "failureType": "REJECTED",
                "action": "CANCEL",
                "thresholdPercentage": 0.5,
                "minNumberOfExecutedThings": 1,
            }
        ]
    },
    "timeoutConfig": {"inProgressTimeoutInMinutes": 10080},
    "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 0}]},
    "tags": [{"Key": "k"}],
}
LATER = {
    **CREATE,
    "schedulingConfig": {
        "startTime": f"{START:%Y-%m-%d %H:%M}",
        "maintenanceWindows": [{"startTime": "cron(0 3 ? * SUN *)", "durationInMinutes": 60}],
    },
}
WHY = {"reasonCode": "R", "comment": "c"}
MORE = {"targets": [ARN + "thinggroup/wired"], "comment": "c"}
DETAILS = {"statusDetails": {"k": "v"}, "expectedVersion": 2}


def begun(api: Running) -> None:
    """Thing `w` has begun with job `one`."""
    settle(api)
    api.registry.device_jobs.update("w", "one", Status.IN_PROGRESS, api.clock(), details={"a": "b"})


CALLS: list[Step] = [
    ("CreateJob", "PUT", "/jobs/one", CREATE, 200),
    ("CreateJob", "PUT", "/jobs/later", LATER, 200),
    ("CreateJob", "PUT", "/jobs/one", CREATE, 409),
    ("CreateJob", "PUT", "/jobs/two", {**CREATE, "targets": [ARN + "thing/none"]}, 404),
    ("CreateJob", "PUT", "/jobs/two", {**CREATE, "tags": [{"Key": f"{i}"} for i in range(51)]}, 410),
    ("CreateJob", "PUT", "/jobs/two", {**CREATE, "document": "x"}, 400),
    begun,
    ("DescribeJob", "GET", "/jobs/one?beforeSubstitution=true", None, 200),
    ("DescribeJob", "GET", "/jobs/later", None, 200),
    ("DescribeJob", "GET", "/jobs/two", None, 404),
    ("DescribeJob", "GET", "/jobs/a.b", None, 400),
    ("GetJobDocument", "GET", "/jobs/one/job-document", None, 200),
    ("GetJobDocument", "GET", "/jobs/two/job-document", None, 404),
    ("UpdateJob", "PATCH", "/jobs/one", {"description": "é"}, 200),
    ("UpdateJob", "PATCH", "/jobs/two", {}, 404),
    ("UpdateJob", "PATCH", "/jobs/one", {"timeoutConfig": {"inProgressTimeoutInMinutes": 0}}, 400),
    ("ListJobs", "GET", "/jobs?maxResults=1&targetSelection=CONTINUOUS", None, 200),
    ("ListJobs", "GET", "/jobs?thingGroupName=none", None, 404),
    ("ListJobs", "GET", "/jobs?maxResults=251", None, 400),
    ("AssociateTargetsWithJob", "POST", "/jobs/one/targets", MORE, 200),
    ("AssociateTargetsWithJob", "POST", "/jobs/two/targets", MORE, 404),
    ("AssociateTargetsWithJob", "POST", "/jobs/one/targets", {"targets": [ARN + "thing/w"]}, 400),
    ("DescribeJobExecution", "GET", "/things/w/jobs/one?executionNumber=1", None, 200),
    ("DescribeJobExecution", "GET", "/things/w/jobs/one?executionNumber=2", None, 404),
    ("DescribeJobExecution", "GET", "/things/w/jobs/one?executionNumber=x", None, 400),
    ("ListJobExecutionsForJob", "GET", "/jobs/one/things?maxResults=1", None, 200),
    ("ListJobExecutionsForJob", "GET", "/jobs/two/things", None, 404),
    ("ListJobExecutionsForJob", "GET", "/jobs/one/things?status=NONE", None, 400),
    ("ListJobExecutionsForThing", "GET", "/things/w/jobs?status=IN_PROGRESS", None, 200),
    ("ListJobExecutionsForThing", "GET", "/things/none/jobs", None, 404),
    ("ListJobExecutionsForThing", "GET", "/things/w/jobs?nextToken=x", None, 400),
    ("CancelJobExecution", "PUT", "/things/w/jobs/one/cancel", DETAILS, 409),
    ("CancelJobExecution", "PUT", "/things/w/jobs/one/cancel?force=true", {"expectedVersion": 7}, 409),
    ("CancelJobExecution", "PUT", "/things/w/jobs/one/cancel?force=true", DETAILS, 200),
    ("CancelJobExecution", "PUT", "/things/none/jobs/one/cancel", None, 404),
    ("CancelJobExecution", "PUT", "/things/w/jobs/one/cancel?force=1", None, 400),
    ("DeleteJobExecution", "DELETE", "/things/v/jobs/one/executionNumber/1", None, 409),
    ("DeleteJobExecution", "DELETE", "/things/w/jobs/one/executionNumber/1", None, 200),
    ("DeleteJobExecution", "DELETE", "/things/w/jobs/one/executionNumber/1", None, 404),
    ("DeleteJobExecution", "DELETE", "/things/w/jobs/one/executionNumber/x", None, 400),
    ("DeleteJob", "DELETE", "/jobs/one", None, 409),
    ("CancelJob", "PUT", "/jobs/one/cancel?force=true", WHY, 200),
    ("CancelJob", "PUT", "/jobs/one/cancel", WHY, 400),
    ("CancelJob", "PUT", "/jobs/two/cancel", None, 404),
    ("DescribeJob", "GET", "/jobs/one", None, 200),
    ("DeleteJob", "DELETE", "/jobs/one", None, 200),
    ("DeleteJob", "DELETE", "/jobs/two?force=true", None, 404),
    ("DeleteJob", "DELETE", "/jobs/one?force=x", None, 400),
]


def prepare(api: Running) -> None:
    """Things `v` and `w`, of which `v` is in the group `wired`."""
    for thing in ("v", "w"):
        api.registry.things.create(thing, type_name=None, attributes={})
    api.registry.thing_groups.create(
        "wired", parent=None, description=None, attributes={}, tags={}, now=api.clock()
    )
    api.registry.thing_groups.change("v", join=["wired"])


@pytest.fixture
def fleet(api: Running) -> Running:
    """The running API with things, a group, and no jobs."""
    if not api.registry.things.count():
        prepare(api)
    for job in api.registry.jobs.list(limit=100).items:
        if job.status != "DELETION_IN_PROGRESS":
            api.registry.jobs.delete(job.job_id, api.clock(), force=True)
    settle(api)
    return api


def test_answers_are_what_the_model_says(fleet: Running) -> None:
    check_calls(fleet, CALLS)


def test_every_operation_and_both_outcomes_are_among_them() -> None:
    check_complete(CALLS, {name for name in IOT if "Job" in name})
