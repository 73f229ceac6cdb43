"""Jobs by hand: answers held against the model, and the real `aws` command once for each operation."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from broker_bridge.jobs.engine import Engine
from broker_bridge.jobs.execution import Status
from tests.api.running import ACCOUNT, REGION, ROLE, Running
from tests.support.required import lacking

MODEL = ServiceModel(Loader().load_service_model("iot", "service-2"), "iot")
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

CALLS: list[tuple[str, str, str, Any, int]] = [
    ("CreateJob", "PUT", "/jobs/one", CREATE, 200),
    ("CreateJob", "PUT", "/jobs/later", LATER, 200),
    ("CreateJob", "PUT", "/jobs/one", CREATE, 409),
    ("CreateJob", "PUT", "/jobs/two", {**CREATE, "targets": [ARN + "thing/none"]}, 404),
    ("CreateJob", "PUT", "/jobs/two", {**CREATE, "tags": [{"Key": f"{i}"} for i in range(51)]}, 410),
    ("CreateJob", "PUT", "/jobs/two", {**CREATE, "document": "x"}, 400),
    ("", "", "", "w", 0),
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

KINDS = {"string": str, "integer": int, "long": int, "boolean": bool, "double": float, "timestamp": float}


def conforms(shape: Any, wire: Any, where: str) -> None:
    """Every member of the answer stands in the model, with its type."""
    if shape.type_name == "structure":
        assert set(wire) <= set(shape.members), where
        for name, value in wire.items():
            conforms(shape.members[name], value, f"{where}.{name}")
    elif shape.type_name == "list":
        for value in wire:
            conforms(shape.member, value, f"{where}[]")
    elif shape.type_name == "map":
        for key, value in wire.items():
            conforms(shape.key, key, where)
            conforms(shape.value, value, f"{where}.{key}")
    else:
        assert type(wire) is KINDS[shape.type_name], where
        if getattr(shape, "enum", None):
            assert wire in shape.enum, where


def prepare(api: Running) -> None:
    """Things `v` and `w`, of which `v` is in the group `wired`."""
    for thing in ("v", "w"):
        api.registry.things.create(thing, type_name=None, attributes={})
    api.registry.thing_groups.create(
        "wired", parent=None, description=None, attributes={}, tags={}, now=api.clock()
    )
    api.registry.thing_groups.change("v", join=["wired"])


def settle(api: Running) -> None:
    """The engine does what is due."""
    engine = Engine(api.registry.jobs, api.registry.job_steps)
    for _ in range(100):
        now = api.clock()
        if engine.run(now) > now:
            return
    raise AssertionError("the engine never comes to rest")


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
    parser = create_parser("rest-json")
    for name, method, target, body, status in CALLS:
        if not name:
            settle(fleet)
            fleet.registry.device_jobs.update(
                body, "one", Status.IN_PROGRESS, fleet.clock(), details={"a": "b"}
            )
            continue
        operation = MODEL.operation_model(name)
        sent = None if body is None else json.dumps(body).encode()
        answer = fleet.send(method, target, sent, {"content-type": "application/json"})
        where = f"{name} {target}: {answer.body!r}"
        assert answer.status == status, where
        parsed = parser.parse(
            {"status_code": status, "headers": answer.headers, "body": answer.body}, operation.output_shape
        )
        if status == 200:
            if operation.output_shape is not None:
                conforms(operation.output_shape, answer.json, name)
                del parsed["ResponseMetadata"]
                assert set(parsed) == set(answer.json), where
            continue
        code = parsed["Error"]["Code"]
        assert code in {shape.name for shape in operation.error_shapes}, where
        shape = MODEL.shape_for(code)
        assert shape.metadata["error"]["httpStatusCode"] == status
        conforms(shape, answer.json, code)


def test_every_operation_and_both_outcomes_are_among_them() -> None:
    operations = {name for name in MODEL.operation_names if "Job" in name and "Template" not in name}
    operations -= {"DescribeManagedJobTemplate", "ListManagedJobTemplates"}
    for outcome in (True, False):
        assert {name for name, *_, status in CALLS if name and (status == 200) is outcome} == operations


class Command:
    """The real `aws` command, against the running API."""

    def __init__(self, api: Running) -> None:
        self.api = api
        self.path = Path(sys.executable).with_name("aws")
        if not self.path.is_file():
            lacking("aws", "the aws command is not installed beside this Python")

    def __call__(self, *arguments: str) -> Any:
        """What it prints, where it ends well."""
        where = ("--endpoint-url", self.api.url, "--region", REGION, "--output", "json")
        done = subprocess.run(
            [self.path, "iot", *arguments, *where],
            env={**os.environ, "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": ""},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None


ONE = ("--job-id", "cli")


def test_the_aws_command_for_jobs(fleet: Running) -> None:
    aws = Command(fleet)
    targets = ("--targets", ARN + "thinggroup/wired", ARN + "thing/w", "--target-selection", "CONTINUOUS")
    abort = '{"criteriaList":[{"failureType":"FAILED","action":"CANCEL",' + (
        '"thresholdPercentage":20,"minNumberOfExecutedThings":100}]}'
    )
    rollout = ("--job-executions-rollout-config", "maximumPerMinute=1000", "--abort-config", abort)
    assert aws("create-job", *ONE, *targets, "--document", '{"a":1}', *rollout)["jobArn"] == ARN + "job/cli"
    settle(fleet)
    job = aws("describe-job", *ONE)["job"]
    assert job["jobProcessDetails"]["numberOfQueuedThings"] == 2
    assert job["abortConfig"]["criteriaList"][0]["thresholdPercentage"] == 20
    assert aws("get-job-document", *ONE) == {"document": '{"a":1}'}
    assert aws("update-job", *ONE, "--timeout-config", "inProgressTimeoutInMinutes=9") is None
    assert [job["jobId"] for job in aws("list-jobs", "--status", "IN_PROGRESS")["jobs"]] == ["cli"]
    more = ("--targets", ARN + "thinggroup/wired")
    assert aws("associate-targets-with-job", *ONE, *more)["jobId"] == "cli"
    assert aws("cancel-job", *ONE, "--reason-code", "R", "--comment", "c", "--force")["jobId"] == "cli"
    assert aws("delete-job", *ONE) is None


def test_the_aws_command_for_executions(fleet: Running) -> None:
    aws = Command(fleet)
    fleet.client().create_job(jobId="cli", targets=[ARN + "thing/v", ARN + "thing/w"], document="{}")
    settle(fleet)
    mine = (*ONE, "--thing-name", "v")
    assert aws("describe-job-execution", *mine)["execution"]["status"] == "QUEUED"
    assert len(aws("list-job-executions-for-job", *ONE)["executionSummaries"]) == 2
    assert len(aws("list-job-executions-for-thing", "--thing-name", "w")["executionSummaries"]) == 1
    assert aws("cancel-job-execution", *mine, "--force", "--status-details", "why=so") is None
    assert aws("delete-job-execution", *mine, "--execution-number", "1") is None
    assert len(fleet.registry.jobs.executions_of_job("cli", limit=9).items) == 1
