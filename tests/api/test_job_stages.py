"""Stages and pauses with the plain AWS API: they are tags of jobs."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from broker_bridge.jobs.engine import Engine
from broker_bridge.jobs.execution import Status
from tests.api.ota import Updates
from tests.api.running import ROLE, Running, arn, refused
from tests.support.waiting import wait_until

PLAN = "10@100/100"


@pytest.fixture(scope="module")
def settle(api: Running, iot: Any) -> Callable[[], datetime]:
    """Ten things in a group; runs the engine until nothing is due, and returns when something is again."""
    iot.create_thing_group(thingGroupName="staged")
    for i in range(10):
        iot.create_thing(thingName=f"s{i}")
        iot.add_thing_to_thing_group(thingName=f"s{i}", thingGroupName="staged")
    engine = Engine(api.registry.jobs, api.registry.job_steps)

    def run() -> datetime:
        for _ in range(1000):
            now = api.clock()
            due = engine.run(now)
            if due > now:
                return due
        raise AssertionError("the engine never comes to rest")

    return run


def create(iot: Any, job_id: str, **tags: str) -> Any:
    named = [{"Key": f"sluice:{key}", "Value": value} for key, value in tags.items()]
    return iot.create_job(jobId=job_id, targets=[arn("staged", "thinggroup")], document="{}", tags=named)


def reached(iot: Any, job_id: str) -> list[str]:
    found = iot.list_job_executions_for_job(jobId=job_id)["executionSummaries"]
    return [one["thingArn"].rpartition("/")[2] for one in found]


def test_stages_and_a_pause(api: Running, iot: Any, settle: Callable[[], datetime]) -> None:
    job = create(iot, "plan", stages=PLAN)["jobArn"]
    settle()
    (first,) = reached(iot, "plan")
    comment = iot.describe_job(jobId="plan")["job"]["comment"]
    assert comment == "stage 1 of 2: 10 %, 1 of 10 things, at least 1 must succeed"
    iot.tag_resource(resourceArn=job, tags=[{"Key": "sluice:paused"}])
    api.registry.device_jobs.update(first, "plan", Status.SUCCEEDED, api.clock())
    settle()
    assert reached(iot, "plan") == [first]
    iot.untag_resource(resourceArn=job, tagKeys=["sluice:paused"])
    settle()
    assert len(reached(iot, "plan")) == 10
    assert iot.list_tags_for_resource(resourceArn=job)["tags"] == [{"Key": "sluice:stages", "Value": PLAN}]


def test_a_failed_stage_as_operators_see_it(api: Running, iot: Any, settle: Callable[[], datetime]) -> None:
    create(iot, "bad", stages=PLAN)
    settle()
    (first,) = reached(iot, "bad")
    api.registry.device_jobs.update(first, "bad", Status.FAILED, api.clock())
    job = iot.describe_job(jobId="bad")["job"]
    assert (job["status"], job["reasonCode"]) == ("CANCELED", "STAGE_FAILED")
    assert job["comment"].endswith("and 1 did not: 1 FAILED, 0 TIMED_OUT, 0 REJECTED")
    settle()
    assert reached(iot, "bad") == [first]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stages", "5/100", "tags[0]: 'sluice:stages' is '5/100', whose stage 1, '5', needs @SUCCEEDED"),
        ("stages", "", "whose stage 1, '', is not of the form"),
        ("stage", PLAN, "tags[0]: 'sluice:stage' is none of Sluice's tags"),
    ],
)
def test_tags_that_cannot_be_kept_to(
    iot: Any, settle: Callable[[], datetime], key: str, value: str, message: str
) -> None:
    job = create(iot, f"fine-{key}-{len(value)}")["jobArn"]
    tags = [{"Key": f"sluice:{key}", "Value": value}]
    for call in (
        lambda: create(iot, "none", **{key: value}),
        lambda: iot.tag_resource(resourceArn=job, tags=tags),
    ):
        code, said, _ = refused(call)
        assert code == "InvalidRequestException"
        assert message in said
    assert iot.list_tags_for_resource(resourceArn=job)["tags"] == []
    assert refused(lambda: iot.describe_job(jobId="none"))[0] == "ResourceNotFoundException"


def test_an_update_hands_its_stages_to_its_job(updates: Updates) -> None:
    iot = updates.iot
    tags = [{"Key": "sluice:stages", "Value": PLAN}, {"Key": "sluice:paused", "Value": "wait"}]
    iot.create_thing(thingName="one")
    iot.create_ota_update(
        otaUpdateId="staged",
        targets=[arn("one", "thing")],
        roleArn=ROLE,
        files=[{"fileName": "a", "fileLocation": {"s3Location": {"bucket": "firmware", "key": "app.bin"}}}],
        tags=tags,
    )

    def made() -> Any:
        info = iot.get_ota_update(otaUpdateId="staged")["otaUpdateInfo"]
        return info if info["otaUpdateStatus"] == "CREATE_COMPLETE" else None

    job = wait_until(made, 60, "the update is made")["awsIotJobArn"]
    assert iot.list_tags_for_resource(resourceArn=job)["tags"] == sorted(tags, key=lambda tag: tag["Key"])
