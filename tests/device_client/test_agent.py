"""What becomes of a device and of its jobs, case by case, in virtual time."""

from typing import Any

import pytest

from tests.device_client.jobs_model import Try, ota_document
from tests.device_client.ota_world import BLOCK_SIZE, BUFFER, STRANGER, World, image, sign

NEW = image(2)
BLOCKS = -(-len(NEW) // BLOCK_SIZE)


@pytest.fixture
def world() -> World:
    return World()


def reasons(world: World) -> list[tuple[str, str]]:
    return [(one.status, one.details.get("reason", "")) for one in world.jobs.tries]


class TestUpdate:
    """The way that all updates should go."""

    def test_every_report_is_one_of_the_sdk(self, world: World) -> None:
        world.pace = 300
        job = world.update(NEW)
        world.run()
        assert world.running == NEW
        assert not world.testing()
        receive = [details["receive"] for status, details in job.history if "receive" in details]
        assert receive[0] == f"0/{BLOCKS}"
        assert receive[1] in [f"{held}/{BLOCKS}" for held in (1, 2, 3, 4)]
        assert len(receive) >= 3
        assert [one for _, one in job.history if "receive" not in one] == [
            {"self_test": "ready", "updatedBy": "0x00000001"},
            {"self_test": "active", "updatedBy": "0x00000001"},
            {"reason": "accepted  v0.0.2", "updatedBy": "  v0.0.1"},
        ]
        assert [status for status, _ in job.history][-1] == "SUCCEEDED"
        assert {status for status, _ in job.history[:-1]} == {"IN_PROGRESS"}
        assert world.boots == 2

    def test_progress_is_told_once_in_a_while(self, world: World) -> None:
        world.pace = 100
        job = world.update(image(2, 8000))
        world.run()
        held = [int(one["receive"].split("/")[0]) for _, one in job.history if "receive" in one]
        assert held == sorted(set(held))
        assert len(held) > 3

    def test_one_after_the_other(self, world: World) -> None:
        for version in (2, 3, 4):
            world.update(image(version), f"up{version}")
        world.run()
        assert [status for status, _ in reasons(world)] == ["SUCCEEDED"] * 3
        assert world.version == 4

    def test_a_self_test_that_takes_its_time(self, world: World) -> None:
        world.test_says = [None] * 50
        world.update(NEW)
        world.run()
        assert world.version == 2


class TestNotForThisDevice:
    """What is refused, and that nothing is written for it."""

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"certfile": "/certs/other.pem"}, "no key of /certs/other.pem"),
            ({"certfile": None}, "certfile: not there"),
            ({"filesize": 8193}, "8193 bytes do not fit the slot of 8192"),
            ({"filesize": 0}, "filesize: 0 is not an integer within 1"),
            ({"filesize": True}, "filesize: True is not an integer"),
            ({"filesize": "100"}, "filesize: 100 is not an integer"),
            ({"fileid": 256}, "fileid: 256 is not an integer within 0 to 255"),
            ({"fileid": None}, "fileid: None is not an integer"),
            ({"fileType": 1}, "fileType: 1; this device takes 0"),
            ({"filepath": ""}, "filepath: empty"),
            ({"sig-sha256-ecdsa": None}, "sig-sha256-ecdsa: not there"),
            ({"sig-sha256-ecdsa": "!"}, "not Base64 of a signature"),
        ],
    )
    def test_a_document(self, world: World, changes: dict[str, Any], says: str) -> None:
        job = world.update(NEW, **changes)
        world.run()
        assert job.status == "REJECTED"
        assert [status for status, _ in job.history] == ["REJECTED"]
        assert says in job.details["reason"]
        assert world.streams["AFR_OTA-up"].requests == []

    @pytest.mark.parametrize(
        ("document", "says"),
        [
            ({"afr_ota": {"protocols": ["HTTP"], "streamname": "s", "files": [{}]}}, "MQTT is not among"),
            ({"afr_ota": {"protocols": ["MQTT"], "streamname": "a/b", "files": [{}]}}, "streamname"),
            ({"afr_ota": {"protocols": ["MQTT"], "streamname": "s", "files": [{}, {}]}}, "2 entries"),
            ({"afr_ota": {"protocols": ["MQTT"], "streamname": "s", "files": [7]}}, "an object"),
            ({"afr_ota": []}, "afr_ota: empty"),
            ({"afr_ota": {"protocols": "MQTT"}}, "protocols: empty, or not of the type list"),
            ({"reboot": True}, "knows no job with reboot"),
            ({}, "knows no job with"),
        ],
    )
    def test_another_kind(self, world: World, document: dict[str, Any], says: str) -> None:
        job = world.jobs.create("odd", document)
        world.run()
        assert job.status == "REJECTED"
        assert says in job.details["reason"]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (image(2, model="M2"), "the image is for M2; this is M1"),
            (image(1), "v0.0.1 is not newer than v0.0.1"),
            (b"\0" * 3000, "no image for this device"),
        ],
    )
    def test_an_image_is_known_by_its_first_block(self, world: World, content: bytes, says: str) -> None:
        job = world.update(content)
        world.run()
        assert job.status == "FAILED"
        assert job.details == {"reason": f"rejected: {job.details['reason'].removeprefix('rejected: ')}"}
        assert says in job.details["reason"]
        assert len(world.flash.slots[1]) == 0
        assert world.boots == 1

    def test_somebody_elses_signature(self, world: World) -> None:
        world.publish("s", NEW)
        job = world.jobs.create("forged", ota_document("s", len(NEW), sign(NEW, STRANGER)))
        world.run()
        assert (job.status, job.details) == (
            "FAILED",
            {"reason": "rejected: its signature does not verify"},
        )
        assert world.boots == 1

    def test_a_stream_of_another_size(self, world: World) -> None:
        job = world.update(NEW, filesize=100)
        world.run()
        assert job.status == "FAILED"
        assert f"filesize: 100, and the stream's file has {len(NEW)} bytes" in job.details["reason"]

    def test_a_stream_that_is_not_there(self, world: World) -> None:
        job = world.jobs.create("no", ota_document("s", 100, b"x"))
        world.run()
        assert job.status == "FAILED"
        assert "aborted: nothing new for 60 s" in job.details["reason"]

    def test_what_the_loader_does_not_trust(self, world: World) -> None:
        job = world.update(NEW[:-1] + b"x")
        world.run()
        assert (job.status, job.details["reason"]) == ("FAILED", "rejected: the loader does not trust it")
        assert world.version == 1


class TestTooLong:
    """Jobs whose messages the device cannot hear."""

    REASON = "rejected: the job's messages do not fit this device's buffer of 4096 bytes"

    def long(self, world: World, job_id: str = "long") -> Try:
        return world.jobs.create(job_id, {"steps": "x" * BUFFER})

    def test_are_refused_and_others_go_on(self, world: World) -> None:
        first, second, job = self.long(world), self.long(world, "longer"), world.update(NEW)
        world.run()
        for one in (first, second):
            assert one.history == [("REJECTED", {"reason": self.REASON})]
        assert (job.status, world.version) == ("SUCCEEDED", 2)

    def test_are_refused_when_they_come(self, world: World) -> None:
        world.run()
        job = self.long(world)
        began = world.now
        world.run()
        assert job.status == "REJECTED"
        assert world.now < began + 60_000, "at once"

    def test_that_somebody_has_begun_fail(self, world: World) -> None:
        job = self.long(world)
        job.status = "IN_PROGRESS"
        world.run()
        assert job.history == [("FAILED", {"reason": self.REASON})]

    def test_are_confirmed_by_the_version_that_they_brought(self, world: World) -> None:
        """One that hears less than the version before."""
        job = world.update(NEW)
        world.run(until=world.testing)
        job.document["more"] = "x" * BUFFER
        world.run()
        assert (job.status, world.version, world.testing()) == ("SUCCEEDED", 2, False)

    def test_while_another_is_under_way(self, world: World) -> None:
        """What is too long is not held against the job that takes its place."""
        for steps in range(60):
            other = World()
            long = self.long(other)
            for _ in range(steps):
                other.step()
            if long.status == "QUEUED":
                other.jobs.end(long, "CANCELED")
            job = other.update(NEW)
            other.run()
            assert (job.status, other.version) == ("SUCCEEDED", 2), steps
        assert long.status == "REJECTED"


class TestTestBoot:
    """A new version that is not kept."""

    def test_that_finds_that_it_does_not_work(self, world: World) -> None:
        job = world.update(image(2, works=False))
        world.run()
        assert (job.status, job.details["reason"]) == ("FAILED", "rejected: the radio is dead")
        assert world.running == image(1)
        assert world.flash.states == ["confirmed", "refused"]

    def test_that_crashes_each_time(self, world: World) -> None:
        job = world.update(NEW)
        world.run(until=world.testing)
        while world.testing():  # before it says a word
            world.start()
        world.run()
        assert (job.status, job.details["reason"]) == ("FAILED", "rejected: it did not confirm itself")
        assert world.version == 1

    def test_that_is_never_done(self, world: World) -> None:
        world.test_says = [None] * 100_000
        job = world.update(NEW)
        world.run()
        assert job.status == "FAILED"
        assert "aborted: the self-test did not come to its end" in job.details["reason"]
        assert world.version == 1

    def test_that_cannot_reach_its_broker(self, world: World) -> None:
        job = world.update(NEW)
        world.run(until=world.testing)
        world.up = False
        world.run(until=lambda: not world.testing())
        assert world.now < 11 * 60_000
        world.up = True
        world.run()
        assert (job.status, job.details["reason"]) == ("FAILED", "rejected: it did not confirm itself")

    def test_whose_job_was_canceled_meanwhile(self, world: World) -> None:
        job = world.update(NEW)
        world.run(until=world.testing)
        world.jobs.end(job, "CANCELED")
        world.run()
        assert world.version == 1
        assert job.history[-1][1]["self_test"] == "ready"
        assert world.now < 60_000, "at once"

    def test_whose_job_is_canceled_while_it_tests_itself(self, world: World) -> None:
        world.test_says = [None] * 1000
        job = world.update(NEW)
        world.run(until=lambda: world.agent.state == "testing" and len(world.test_says) < 990)
        world.jobs.end(job, "CANCELED")
        world.run()
        assert world.version == 1
        assert world.now < 60_000, "at once"

    def test_whose_word_is_refused(self, world: World) -> None:
        job = world.update(NEW)
        world.run(until=world.testing)
        world.jobs.refuse = lambda _details: "InvalidStateTransition"
        world.run(until=lambda: not world.testing())
        assert world.now < 60_000, "at once"
        world.jobs.refuse = lambda _details: ""
        world.run()
        assert (job.status, job.details["reason"]) == ("FAILED", "rejected: it did not confirm itself")

    def test_that_dies_and_the_loader_does_not_tell(self, world: World) -> None:
        world.forgets = True
        world.test_says = [None] * 1000
        job = world.update(NEW)
        world.run(until=lambda: world.agent.state == "testing" and len(world.test_says) < 990)
        while world.testing():
            world.start()
        world.run()
        why = "rejected: the new version ran and did not confirm itself"
        assert (job.status, job.details["reason"]) == ("FAILED", why)

    def test_whose_job_was_tried_again(self, world: World) -> None:
        first = world.update(NEW)
        world.run(until=world.testing)
        world.jobs.end(first, "TIMED_OUT", again=True)
        world.run()
        assert world.version == 2
        assert [one.status for one in world.jobs.tries] == ["TIMED_OUT", "SUCCEEDED"]

    def test_an_update_that_nobody_asked_for(self, world: World) -> None:
        world.flash.slots[1], world.flash.states[1] = bytearray(NEW), "requested"
        world.start()
        world.run()
        assert world.version == 1
        assert world.now < 60_000, "at once"


class TestOtherJobs:
    """Jobs that are no OTA updates."""

    def test_are_the_applications(self, world: World) -> None:
        world.other = lambda job: ("SUCCEEDED", {"rebooted": "no"}) if "reboot" in job.document else None
        world.start()
        known, unknown = world.jobs.create("a", {"reboot": 1}), world.jobs.create("b", {"other": 1})
        world.run()
        assert (known.status, known.details) == ("SUCCEEDED", {"rebooted": "no"})
        assert unknown.status == "REJECTED"

    def test_reasons_are_what_aws_takes(self, world: World) -> None:
        job = world.jobs.create("odd", {"a\n\u20ac" * 50: 1, **{f"k{i}": 1 for i in range(500)}})
        world.run()
        assert job.status == "REJECTED"
        assert job.details["reason"].isprintable()


class TestTrouble:
    """Lost messages, lost sessions, other minds."""

    def test_canceled_while_it_loads(self, world: World) -> None:
        job = world.update(image(2, 8000))
        world.run(until=lambda: len(world.flash.slots[1]) > 1000)
        world.jobs.end(job, "CANCELED")
        other = world.update(image(3), "other")
        world.run()
        assert (other.status, world.version) == ("SUCCEEDED", 3)
        assert [status for status, _ in job.history] == ["IN_PROGRESS"] * len(job.history)

    def test_timed_out_and_tried_again_while_it_loads(self, world: World) -> None:
        job = world.update(image(2, 8000))
        world.run(until=lambda: len(world.flash.slots[1]) > 4000)
        world.jobs.end(job, "TIMED_OUT", again=True)
        before = world.streams["AFR_OTA-up"].requests.copy()
        world.run()
        after = world.streams["AFR_OTA-up"].requests[len(before) :]
        assert world.version == 2
        assert after[0]["o"] > 0, "it does not begin anew"

    def test_told_again_and_again(self, world: World) -> None:
        job = world.update(NEW)
        while not world.done():
            world.step()
            found = world.jobs.next()
            if found and len(world.network) < 50:
                world.network.append(world.jobs._say("notify-next", {"execution": found.shown()}))
        assert world.version == 2
        assert len(job.history) < 12

    def test_a_late_word_of_a_job_that_has_ended(self, world: World) -> None:
        job = world.update(NEW)
        late = world.jobs._say("notify-next", {"execution": job.shown()})
        world.run()
        told = len(job.history)
        world.network.append(late)
        world.run()
        assert (len(job.history), job.status) == (told, "SUCCEEDED")

    @pytest.mark.parametrize("code", ["VersionMismatch", "InvalidStateTransition", "TerminalStateReached"])
    def test_an_update_that_is_refused(self, world: World, code: str) -> None:
        job = world.update(NEW)
        world.jobs.refuse = lambda _details: code
        end = world.now + 3_600_000
        while world.now < end:
            world.step()
        assert len(world.jobs.requests) < 40, "it pauses longer and longer"
        world.jobs.refuse = lambda _details: ""
        world.run()
        assert (job.status, world.version) == ("SUCCEEDED", 2)

    @pytest.mark.parametrize("code", ["RequestThrottled", "InternalError"])
    def test_an_update_that_is_to_be_sent_again(self, world: World, code: str) -> None:
        job = world.update(NEW)
        world.jobs.refuse = lambda details: code if "self_test" in details else ""
        world.run(until=lambda: world.agent.state == "ready")
        end = world.now + 30_000
        while world.now < end:
            world.step()
        assert world.agent.state == "ready"
        world.jobs.refuse = lambda _details: ""
        world.run()
        assert job.status == "SUCCEEDED"

    def test_nobody_answers_for_hours(self, world: World) -> None:
        job = world.update(NEW)
        world.loses = lambda message: b"self_test" in message[1]
        end = world.now + 5 * 3_600_000
        while world.now < end:
            world.step()
        assert world.version == 1
        world.loses = lambda _message: False
        world.run()
        assert (job.status, world.version) == ("SUCCEEDED", 2)

    def test_without_a_session_for_hours(self, world: World) -> None:
        job = world.update(image(2, 8000))
        world.run(until=lambda: len(world.flash.slots[1]) > 4000)
        world.up = False
        end = world.now + 5 * 3_600_000
        while world.now < end:
            world.step()
        world.up = True
        world.run()
        assert (job.status, world.version) == ("SUCCEEDED", 2)

    def test_the_stream_is_updated_meanwhile(self, world: World) -> None:
        content = image(2, 8000)
        job = world.update(content)
        world.run(until=lambda: len(world.flash.slots[1]) > 4000)
        world.streams["AFR_OTA-up"].version += 1
        world.run()
        assert (job.status, world.version) == ("SUCCEEDED", 2)


@pytest.mark.parametrize("works", [True, False])
def test_the_power_is_cut_at_every_durable_operation(works: bool) -> None:
    """Before it and after it; and once more, at another one: job and device agree in the end."""
    whole = World()
    whole.update(image(2, 1500, works=works))
    whole.run()
    assert whole.flash.operations >= 20
    for place in range(1, whole.flash.operations + 1):
        for again in (0, 1, 2, 3, 7):
            world = World()
            job = world.update(image(2, 1500, works=works))
            world.flash.cut_in = place
            while not world.cuts and not world.done():
                world.step()
            if again:
                world.flash.cut_in = world.flash.operations + again
            world.run()
            assert world.cuts in (1, 1 + bool(again))
            assert (world.version, job.status) == ((2, "SUCCEEDED") if works else (1, "FAILED"))


@pytest.mark.parametrize("works", [True, False])
def test_the_power_is_cut_after_every_message(works: bool) -> None:
    """Between two messages, either way, whichever it is."""
    place = 0
    while True:
        place += 1
        world = World()
        job = world.update(image(2, 1500, works=works))
        for _ in range(place):
            world.step()
        over = world.done()
        if not over:
            world.start()
        world.run()
        assert (world.version, job.status) == ((2, "SUCCEEDED") if works else (1, "FAILED"))
        if over:
            break
    assert place > 12
