"""Jobs and their executions on AWS's control plane, with real boto3 against the running API."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from broker_bridge.jobs.engine import Engine
from broker_bridge.jobs.execution import Status
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectForbidden, ObjectInfo
from tests.api.running import ACCOUNT, REGION, ROLE, Running, refused

THING = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/"
GROUP = f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/"
JOB = f"arn:aws:iot:{REGION}:{ACCOUNT}:job/"
DOCUMENT = '{ "do" : "it", "at": 1.5 }'


class Secretive(FolderStore):
    """Shows nobody what is in the bucket `secret`."""

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        if bucket == "secret":
            raise ObjectForbidden("no")
        return super().head(bucket, key, version_id)


class Service:
    """The API with an engine that runs when it is told to, at the API's own time."""

    def __init__(self, api: Running) -> None:
        self.api = api
        self.engine = Engine(api.registry.jobs, api.registry.job_steps)
        self.iot = api.client()
        self.lax = api.client(validate=False)
        for thing in ("a", "b", "c"):
            self.iot.create_thing(thingName=thing)
        self.iot.create_thing_group(thingGroupName="masts")
        for thing in ("a", "b"):
            self.iot.add_thing_to_thing_group(thingName=thing, thingGroupName="masts")

    def settle(self) -> None:
        for _ in range(100):
            now = self.api.clock()
            if self.engine.run(now) > now:
                return
        raise AssertionError("the engine never comes to rest")

    def job(self, job_id: str, *targets: str, **more: Any) -> Any:
        made = self.iot.create_job(jobId=job_id, targets=[*targets], document=DOCUMENT, **more)
        self.settle()
        return made

    def describe(self, job_id: str) -> Any:
        return self.iot.describe_job(jobId=job_id)["job"]

    def report(self, thing: str, job_id: str, status: str, **more: Any) -> None:
        self.api.registry.device_jobs.update(thing, job_id, Status(status), self.api.clock(), **more)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("jobs")
    running = Running(folder, store=Secretive(folder / "objects"))
    running.put("firmware", "jobs/update 1.json", DOCUMENT.encode())
    yield running
    running.close()


@pytest.fixture(scope="module")
def service(api: Running) -> Service:
    return Service(api)


def test_a_job_from_its_creation_to_its_end(service: Service) -> None:
    iot = service.iot
    configs = {
        "presignedUrlConfig": {"roleArn": ROLE, "expiresInSec": 60},
        "jobExecutionsRolloutConfig": {
            "maximumPerMinute": 1000,
            "exponentialRate": {
                "baseRatePerMinute": 900,
                "incrementFactor": 1.5,
                "rateIncreaseCriteria": {"numberOfSucceededThings": 5},
            },
        },
        "abortConfig": {
            "criteriaList": [
                {
                    "failureType": "ALL",
                    "action": "CANCEL",
                    "thresholdPercentage": 99.5,
                    "minNumberOfExecutedThings": 50,
                }
            ]
        },
        "timeoutConfig": {"inProgressTimeoutInMinutes": 5},
        "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "TIMED_OUT", "numberOfRetries": 1}]},
    }
    made = iot.create_job(
        jobId="whole",
        targets=[GROUP + "masts", THING + "c"],
        document=DOCUMENT,
        description="Ünïcode",
        tags=[{"Key": "k", "Value": "v"}],
        **configs,
    )
    del made["ResponseMetadata"]
    assert made == {"jobArn": JOB + "whole", "jobId": "whole", "description": "Ünïcode"}
    waiting = service.describe("whole")
    assert waiting["isConcurrent"] is True
    assert waiting["jobProcessDetails"]["processingTargets"] == [THING + "c", GROUP + "masts"]
    service.settle()
    job = service.describe("whole")
    counts = dict.fromkeys(
        ("Canceled", "Succeeded", "Failed", "Rejected", "Queued", "InProgress", "Removed", "TimedOut"), 0
    )
    assert job == {
        "jobArn": JOB + "whole",
        "jobId": "whole",
        "targetSelection": "SNAPSHOT",
        "status": "IN_PROGRESS",
        "targets": [THING + "c", GROUP + "masts"],
        "description": "Ünïcode",
        "createdAt": job["createdAt"],
        "lastUpdatedAt": job["createdAt"],
        "isConcurrent": False,
        "jobProcessDetails": {f"numberOf{kind}Things": n for kind, n in (counts | {"Queued": 3}).items()},
        **configs,
    }
    assert abs(job["createdAt"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert iot.get_job_document(jobId="whole")["document"] == DOCUMENT
    assert iot.list_tags_for_resource(resourceArn=JOB + "whole")["tags"] == [{"Key": "k", "Value": "v"}]

    service.report("a", "whole", "IN_PROGRESS", details={"step": "1"})
    execution = iot.describe_job_execution(jobId="whole", thingName="a")["execution"]
    assert execution == {
        "jobId": "whole",
        "status": "IN_PROGRESS",
        "statusDetails": {"detailsMap": {"step": "1"}},
        "thingArn": THING + "a",
        "queuedAt": execution["queuedAt"],
        "startedAt": execution["startedAt"],
        "lastUpdatedAt": execution["startedAt"],
        "executionNumber": 1,
        "versionNumber": 2,
        "approximateSecondsBeforeTimedOut": execution["approximateSecondsBeforeTimedOut"],
    }
    assert 200 <= execution["approximateSecondsBeforeTimedOut"] <= 300
    for thing in ("a", "b", "c"):
        service.report(thing, "whole", "SUCCEEDED")
    job = service.describe("whole")
    assert (job["status"], job["jobProcessDetails"]["numberOfSucceededThings"]) == ("COMPLETED", 3)
    assert job["completedAt"] >= job["createdAt"]


def test_the_document_comes_from_s3(service: Service) -> None:
    for i, source in enumerate(
        (
            "s3://firmware/jobs/update%201.json",
            "https://s3.amazonaws.com/firmware/jobs/update%201.json",
            "https://s3.eu-central-1.amazonaws.com/firmware/jobs/update%201.json",
            "https://firmware.s3.dualstack.eu-central-1.amazonaws.com/jobs/update%201.json",
            "https://firmware.s3-eu-west-1.amazonaws.com/jobs/update%201.json",
        )
    ):
        service.iot.create_job(jobId=f"s3-{i}", targets=[THING + "a"], documentSource=source)
        described = service.iot.describe_job(jobId=f"s3-{i}")
        assert described["documentSource"] == source
        assert service.iot.get_job_document(jobId=f"s3-{i}")["document"] == DOCUMENT
        service.iot.delete_job(jobId=f"s3-{i}", force=True)
        service.settle()


def test_a_job_that_exists_is_named_whatever_its_object(service: Service) -> None:
    service.job("twice", THING + "a")
    with pytest.raises(service.iot.exceptions.ResourceAlreadyExistsException) as caught:
        service.iot.create_job(jobId="twice", targets=[THING + "a"], documentSource="s3://no/where")
    response = caught.value.response
    assert (response["resourceId"], response["resourceArn"]) == ("twice", JOB + "twice")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 409


GOOD = {"targets": [THING + "a"], "document": DOCUMENT}
WINDOW = {"startTime": "cron(0 25 * * ? *)", "durationInMinutes": 5}
RETRIES = {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 10}] * 2}


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"targets": [THING + "z"]}, "ResourceNotFoundException", "there is no thing z"),
        ({"targets": [GROUP + "z"]}, "ResourceNotFoundException", "there is no thing group z"),
        ({"targets": [JOB + "z"]}, "InvalidRequestException", "targets[0]: its resource type is 'job'"),
        ({"targets": ["a"]}, "InvalidRequestException", "targets[0]: it is not an ARN"),
        ({"targets": []}, "InvalidRequestException", "targets: number of items 0"),
        ({"document": None}, "InvalidRequestException", "either document or documentSource is required"),
        ({"documentSource": "s3://firmware/x"}, "InvalidRequestException", "one only"),
        ({"document": "[]"}, "InvalidRequestException", "document: it is not one JSON object"),
        ({"document": "{"}, "InvalidRequestException", "document: it is not one JSON object"),
        (
            {"document": json.dumps({"a": "ü" * 16383}, ensure_ascii=False)},
            "InvalidRequestException",
            "bytes",
        ),
        (
            {"document": '{"u": "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}"}'},
            "ResourceNotFoundException",
            "bucket 'b'",
        ),
        (
            {"document": '{"u": "${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/b/k}"}'},
            "InvalidRequestException",
            "are offered",
        ),
        ({"document": None, "documentSource": "s3://firmware/gone"}, "ResourceNotFoundException", "'gone'"),
        ({"document": None, "documentSource": "s3://gone/x"}, "ResourceNotFoundException", "bucket 'gone'"),
        ({"document": None, "documentSource": "s3://secret/x"}, "InvalidRequestException", "may not read"),
        ({"document": None, "documentSource": "https://a.example/b/c"}, "InvalidRequestException", "no URL"),
        ({"document": None, "documentSource": "s3://firmware"}, "InvalidRequestException", "no URL"),
        ({"document": None, "documentSource": "https://[/b/c"}, "InvalidRequestException", "no URL"),
        ({"namespaceId": "n"}, "InvalidRequestException", "namespaceId: it is not offered"),
        ({"documentParameters": {"a": "b"}}, "InvalidRequestException", "documentParameters"),
        ({"destinationPackageVersions": ["arn:x"]}, "InvalidRequestException", "destinationPackageVersions"),
        ({"jobTemplateArn": "arn:x"}, "ResourceNotFoundException", "no job templates"),
        (
            {"timeoutConfig": {"inProgressTimeoutInMinutes": 0}},
            "InvalidRequestException",
            "0 is not within 1",
        ),
        ({"jobExecutionsRetryConfig": RETRIES}, "InvalidRequestException", "ALL alone"),
        ({"schedulingConfig": {"startTime": "2020-01-01 00:00"}}, "InvalidRequestException", "startTime"),
        ({"schedulingConfig": {"maintenanceWindows": [WINDOW]}}, "InvalidRequestException", "the hours '25'"),
        ({"tags": [{"Key": f"{i}"} for i in range(51)]}, "LimitExceededException", "51"),
        ({"targets": [f"{THING}t{i}" for i in range(101)]}, "LimitExceededException", "101 are over"),
    ],
)
def test_what_cannot_be_a_job(service: Service, given: dict[str, Any], code: str, said: str) -> None:
    if code == "LimitExceededException":
        for i in range(101):
            service.api.registry.things.create(f"t{i}", type_name=None, attributes={})
    request = {name: value for name, value in (GOOD | given).items() if value is not None}
    found, message, _ = refused(lambda: service.lax.create_job(jobId="never", **request))
    assert found == code, message
    assert said in message
    assert refused(lambda: service.iot.describe_job(jobId="never"))[0] == "ResourceNotFoundException"


def test_every_operation_on_what_is_not_there(service: Service) -> None:
    iot = service.iot
    service.job("there", THING + "a")
    calls: list[Callable[[], Any]] = [
        partial(call, jobId="none")
        for call in (
            *(iot.describe_job, iot.get_job_document, iot.update_job, iot.cancel_job, iot.delete_job),
            iot.list_job_executions_for_job,
        )
    ]
    for job_id, thing in (("none", "a"), ("there", "b")):
        calls += [
            partial(iot.describe_job_execution, jobId=job_id, thingName=thing),
            partial(iot.cancel_job_execution, jobId=job_id, thingName=thing),
            partial(iot.delete_job_execution, jobId=job_id, thingName=thing, executionNumber=1),
        ]
    calls += [
        partial(iot.associate_targets_with_job, jobId="none", targets=[GROUP + "masts"]),
        partial(iot.describe_job_execution, jobId="there", thingName="a", executionNumber=1 << 40),
        partial(iot.list_job_executions_for_thing, thingName="none"),
        partial(iot.list_jobs, thingGroupName="none"),
        partial(iot.list_jobs, thingGroupId="none"),
        partial(iot.update_job, jobId="there", namespaceId="n"),
        partial(iot.delete_job, jobId="there", namespaceId="n"),
    ]
    for call in calls:
        code, message, status = refused(call)
        assert (code, status) == ("ResourceNotFoundException", 404), message


def test_update_job(service: Service) -> None:
    service.job("changed", THING + "a", timeoutConfig={"inProgressTimeoutInMinutes": 5}, description="old")
    rollout = {"maximumPerMinute": 3}
    service.iot.update_job(jobId="changed", jobExecutionsRolloutConfig=rollout)
    job = service.describe("changed")
    assert job["jobExecutionsRolloutConfig"] == rollout
    assert job["timeoutConfig"] == {"inProgressTimeoutInMinutes": 5}
    assert job["description"] == "old"
    service.iot.update_job(jobId="changed", description="new")
    assert service.describe("changed")["description"] == "new"
    bad = {"inProgressTimeoutInMinutes": 0}
    code, _, _ = refused(lambda: service.iot.update_job(jobId="changed", timeoutConfig=bad))
    assert code == "InvalidRequestException"
    service.iot.cancel_job(jobId="changed")
    code, message, _ = refused(lambda: service.iot.update_job(jobId="changed", description="x"))
    assert (code, message) == ("InvalidRequestException", "job changed is CANCELED and cannot be changed")


def test_cancel_and_delete_a_job(service: Service) -> None:
    iot = service.iot
    service.job("ends", THING + "a", THING + "b")
    service.report("a", "ends", "IN_PROGRESS")
    code, message, status = refused(lambda: iot.delete_job(jobId="ends"))
    assert (code, status) == ("InvalidStateTransitionException", 409)
    assert "IN_PROGRESS and cannot be deleted" in message
    assert iot.cancel_job(jobId="ends", reasonCode="WRONG_1", comment="so")["jobArn"] == JOB + "ends"
    service.settle()
    job = service.describe("ends")
    assert (job["status"], job["reasonCode"], job["comment"]) == ("CANCELED", "WRONG_1", "so")
    assert "forceCanceled" not in job
    details = job["jobProcessDetails"]
    assert (details["numberOfCanceledThings"], details["numberOfInProgressThings"]) == (1, 1)
    assert refused(lambda: iot.cancel_job(jobId="ends"))[0] == "InvalidRequestException"
    iot.cancel_job(jobId="ends", force=True)
    service.settle()
    assert service.describe("ends")["forceCanceled"] is True
    assert iot.describe_job_execution(jobId="ends", thingName="a")["execution"]["forceCanceled"] is True
    iot.delete_job(jobId="ends")
    assert service.describe("ends")["status"] == "DELETION_IN_PROGRESS"
    assert refused(lambda: iot.delete_job(jobId="ends", force=True))[0] == "InvalidStateTransitionException"
    assert refused(lambda: iot.cancel_job(jobId="ends"))[0] == "InvalidRequestException"
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException):
        service.job("ends", THING + "a")
    service.settle()
    assert refused(lambda: service.describe("ends"))[0] == "ResourceNotFoundException"


def test_at_most_ten_jobs_are_being_deleted(service: Service) -> None:
    for i in range(11):
        service.iot.create_job(jobId=f"many-{i}", targets=[THING + "c"], document="{}")
    for i in range(10):
        service.iot.delete_job(jobId=f"many-{i}", force=True)
    code, _, status = refused(lambda: service.iot.delete_job(jobId="many-10", force=True))
    assert (code, status) == ("LimitExceededException", 410)
    service.settle()
    service.iot.delete_job(jobId="many-10", force=True)
    service.settle()


def test_a_continuous_job_takes_further_groups(service: Service) -> None:
    iot = service.iot
    service.job("grows", THING + "c", targetSelection="CONTINUOUS")
    made = iot.associate_targets_with_job(jobId="grows", targets=[GROUP + "masts"], comment="more")
    assert made["jobId"] == "grows"
    service.settle()
    job = service.describe("grows")
    assert (job["targetSelection"], job["comment"]) == ("CONTINUOUS", "more")
    assert job["targets"] == [THING + "c", GROUP + "masts"]
    assert job["jobProcessDetails"]["numberOfQueuedThings"] == 3
    for job_id, target in (("grows", THING + "a"), ("snap", GROUP + "masts")):
        if job_id == "snap":
            service.job("snap", THING + "a")
        code, _, _ = refused(partial(iot.associate_targets_with_job, jobId=job_id, targets=[target]))
        assert code == "InvalidRequestException"


def test_cancel_and_delete_an_execution(service: Service) -> None:
    iot = service.iot
    service.job("single", THING + "a", THING + "b")
    service.report("a", "single", "IN_PROGRESS")
    mine = {"jobId": "single", "thingName": "a"}
    code, message, status = refused(lambda: iot.cancel_job_execution(**mine))
    assert (code, status) == ("InvalidStateTransitionException", 409)
    assert message == "an execution that is IN_PROGRESS cannot become CANCELED"
    code, message, status = refused(lambda: iot.cancel_job_execution(**mine, force=True, expectedVersion=7))
    assert (code, status) == ("VersionConflictException", 409)
    assert message == "expectedVersion: the execution is at version 2, not at 7"
    many = {f"k{i}": "v" for i in range(11)}
    code, _, _ = refused(lambda: iot.cancel_job_execution(**mine, force=True, statusDetails=many))
    assert code == "InvalidRequestException"
    iot.cancel_job_execution(**mine, force=True, expectedVersion=2, statusDetails={"why": "so"})
    execution = iot.describe_job_execution(**mine)["execution"]
    assert (execution["status"], execution["versionNumber"]) == ("CANCELED", 3)
    assert execution["statusDetails"] == {"detailsMap": {"why": "so"}}
    other = {"jobId": "single", "thingName": "b", "executionNumber": 1}
    assert refused(lambda: iot.delete_job_execution(**other))[0] == "InvalidStateTransitionException"
    assert (
        refused(lambda: iot.delete_job_execution(**other, namespaceId="n"))[0] == "ResourceNotFoundException"
    )
    iot.delete_job_execution(**other, force=True)
    assert refused(lambda: iot.delete_job_execution(**other))[0] == "ResourceNotFoundException"
    assert service.describe("single")["status"] == "COMPLETED"


def pages(call: Callable[..., Any], member: str, **chosen: Any) -> list[Any]:
    """All entries, page by page of two."""
    found: list[Any] = []
    answer = call(**chosen, maxResults=2)
    while True:
        assert len(answer[member]) <= 2
        found += answer[member]
        if "nextToken" not in answer:
            return found
        answer = call(**chosen, maxResults=2, nextToken=answer["nextToken"])


def test_lists(service: Service) -> None:
    iot = service.iot
    iot.create_thing_group(thingGroupName="listed")
    group_id = iot.describe_thing_group(thingGroupName="listed")["thingGroupId"]
    for thing in ("l1", "l2", "l3"):
        iot.create_thing(thingName=thing)
        iot.add_thing_to_thing_group(thingName=thing, thingGroupName="listed")
    retries = {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 1}]}
    for i in range(5):
        continuous = "CONTINUOUS" if i == 4 else "SNAPSHOT"
        service.job(f"l-{i}", GROUP + "listed", targetSelection=continuous, jobExecutionsRetryConfig=retries)
    iot.cancel_job(jobId="l-0")
    service.report("l1", "l-1", "FAILED")

    def ids(**chosen: Any) -> list[str]:
        return [job["jobId"] for job in pages(iot.list_jobs, "jobs", **chosen)]

    assert ids(thingGroupName="listed") == ["l-4", "l-3", "l-2", "l-1", "l-0"]
    assert ids(thingGroupId=group_id, status="CANCELED") == ["l-0"]
    assert ids(thingGroupName="listed", thingGroupId=group_id, targetSelection="CONTINUOUS") == ["l-4"]
    assert ids(namespaceId="n") == []
    assert ids()[:5] == ["l-4", "l-3", "l-2", "l-1", "l-0"]
    summary = pages(iot.list_jobs, "jobs", status="CANCELED", thingGroupName="listed")[0]
    assert summary == {
        "jobArn": JOB + "l-0",
        "jobId": "l-0",
        "targetSelection": "SNAPSHOT",
        "status": "CANCELED",
        "createdAt": summary["createdAt"],
        "lastUpdatedAt": summary["lastUpdatedAt"],
        "isConcurrent": True,
    }
    service.settle()

    of_job = pages(iot.list_job_executions_for_job, "executionSummaries", jobId="l-1")
    assert [
        (e["thingArn"], e["jobExecutionSummary"]["executionNumber"], e["jobExecutionSummary"]["retryAttempt"])
        for e in of_job
    ] == [(THING + "l1", 1, 0), (THING + "l1", 2, 1), (THING + "l2", 1, 0), (THING + "l3", 1, 0)]
    failed = pages(iot.list_job_executions_for_job, "executionSummaries", jobId="l-1", status="FAILED")
    assert [e["thingArn"] for e in failed] == [THING + "l1"]

    of_thing = pages(iot.list_job_executions_for_thing, "executionSummaries", thingName="l1")
    assert [e["jobId"] for e in of_thing] == ["l-4", "l-3", "l-2", "l-1", "l-1", "l-0"]
    chosen = {"thingName": "l1", "jobId": "l-1", "status": "QUEUED"}
    assert len(pages(iot.list_job_executions_for_thing, "executionSummaries", **chosen)) == 1
    assert (
        pages(iot.list_job_executions_for_thing, "executionSummaries", thingName="l1", namespaceId="n") == []
    )

    token = iot.list_jobs(maxResults=1)["nextToken"]
    for call in (
        partial(iot.list_jobs, status="CANCELED", nextToken=token),
        partial(iot.list_job_executions_for_job, jobId="l-1", nextToken=token),
        partial(iot.list_job_executions_for_thing, thingName="l1", nextToken="x"),
    ):
        assert refused(call)[0] == "InvalidRequestException"


def test_a_scheduled_job_shows_its_coming_windows(service: Service) -> None:
    start = (service.api.clock() + timedelta(days=2)).replace(hour=12, minute=0)
    scheduling = {
        "startTime": f"{start:%Y-%m-%d %H:%M}",
        "endTime": f"{start + timedelta(days=2):%Y-%m-%dT%H:%M}",
        "endBehavior": "CANCEL",
        "maintenanceWindows": [{"startTime": "cron(0 18 * * ? *)", "durationInMinutes": 90}],
    }
    service.job("later", THING + "a", schedulingConfig=scheduling)
    job = service.describe("later")
    assert (job["status"], job["schedulingConfig"]) == ("SCHEDULED", scheduling)
    assert job["scheduledJobRollouts"] == [
        {"startTime": f"{start + timedelta(days=day):%Y-%m-%d} 18:00"} for day in range(2)
    ]
    assert "later" in [job["jobId"] for job in service.iot.list_jobs(status="SCHEDULED")["jobs"]]
    service.iot.cancel_job(jobId="later")
    service.settle()
    assert service.describe("later")["status"] == "CANCELED"


def test_tags_of_jobs(service: Service) -> None:
    iot = service.iot
    service.job("tagged", THING + "a", tags=[{"Key": "a", "Value": "1"}])
    iot.tag_resource(resourceArn=JOB + "tagged", tags=[{"Key": "b"}])
    iot.untag_resource(resourceArn=JOB + "tagged", tagKeys=["a"])
    assert iot.list_tags_for_resource(resourceArn=JOB + "tagged")["tags"] == [{"Key": "b", "Value": ""}]
    code, _, _ = refused(lambda: iot.list_tags_for_resource(resourceArn=JOB + "none"))
    assert code == "ResourceNotFoundException"
    iot.delete_job(jobId="tagged", force=True)
    service.settle()
    assert refused(lambda: iot.list_tags_for_resource(resourceArn=JOB + "tagged"))[0] == code
