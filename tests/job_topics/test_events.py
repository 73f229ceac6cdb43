"""`$aws/events/…`: what whoever watches jobs hears of them."""

from typing import Any

from tests.job_topics.conftest import World
from tests.job_topics.living import Device, Listener, arn, create_job


def event(watch: Listener, topic: str) -> dict[str, Any]:
    """The next event, which must be on that topic."""
    heard, message = watch.next()
    assert heard == f"$aws/events/{topic}"
    assert isinstance(message["timestamp"], int)
    assert len(message["eventId"]) == 36
    assert message["operation"] == topic.rpartition("/")[2]
    return dict(message)


def test_a_job_that_is_done(world: World) -> None:
    world.things("done-1", "done-2")
    with (
        Listener(world.port, "$aws/events/+/done/#") as watch,
        Device(world.port, "done-1") as first,
        Device(world.port, "done-2") as second,
    ):
        create_job(world.iot, "done", "done-1", "done-2", description="two masts")
        for device in (first, second):
            device.told()
            device.accepted("start-next")
        first.accepted("done/update", {"status": "SUCCEEDED", "statusDetails": {"took": "3 s"}})
        ended = event(watch, "jobExecution/done/succeeded")
        assert (ended["eventType"], ended["status"], ended["statusDetails"]) == (
            "JOB_EXECUTION",
            "SUCCEEDED",
            {"took": "3 s"},
        )
        assert (ended["jobId"], ended["thingArn"]) == ("done", arn("done-1"))
        second.accepted("done/update", {"status": "FAILED"})
        assert event(watch, "jobExecution/done/failed")["thingArn"] == arn("done-2")
        completed = event(watch, "job/done/completed")
        assert completed["eventType"] == "JOB"
        assert (completed["jobId"], completed["status"]) == ("done", "COMPLETED")
        assert completed["targetSelection"] == "SNAPSHOT"
        assert completed["targets"] == [arn("done-1"), arn("done-2")]
        assert completed["description"] == "two masts"
        counts = completed["jobProcessDetails"]
        assert (counts["numberOfSucceededThings"], counts["numberOfFailedThings"]) == (1, 1)
        for moment in ("createdAt", "lastUpdatedAt", "completedAt"):
            assert isinstance(completed[moment], int)


def test_a_job_that_is_canceled_and_deleted(world: World) -> None:
    world.things("gone")
    world.iot.create_thing_group(thingGroupName="gone-group")
    world.iot.add_thing_to_thing_group(thingName="gone", thingGroupName="gone-group")
    group = arn("gone-group", "thinggroup")
    with Listener(world.port, "$aws/events/+/gone/#") as watch, Device(world.port, "gone") as device:
        create_job(world.iot, "gone", targets=[group], targetSelection="CONTINUOUS")
        device.told()
        world.iot.cancel_job(jobId="gone", reasonCode="WRONG", comment="not this one")
        said = event(watch, "job/gone/cancellation_in_progress")
        assert (said["status"], said["targets"]) == ("CANCELLATION_IN_PROGRESS", [group])
        assert (said["reasonCode"], said["comment"]) == ("WRONG", "not this one")
        assert said["targetSelection"] == "CONTINUOUS"
        assert event(watch, "jobExecution/gone/canceled")["thingArn"] == arn("gone")
        assert event(watch, "job/gone/canceled")["status"] == "CANCELED"
        world.iot.delete_job(jobId="gone")
        assert event(watch, "job/gone/deletion_in_progress")["status"] == "DELETION_IN_PROGRESS"
        deleted = event(watch, "job/gone/deleted")
        assert (deleted["status"], deleted["targets"]) == ("DELETED", [group])
