"""What devices ask and are told over MQTT: AWS's jobs API, and DEVICES "Jobs and OTA" line by line."""

import json
import re
import time
import urllib.request
from typing import Any

import pytest

from tests.job_topics.conftest import World
from tests.job_topics.living import DOCUMENT, Device, arn, create_job

EPOCH_SECONDS = range(1_700_000_000, 10_000_000_000)


def integers(value: Any) -> bool:
    """Whether every number in a message is an integer, as JSON has it."""
    if isinstance(value, dict):
        return all(map(integers, value.values()))
    if isinstance(value, list):
        return all(map(integers, value))
    return not isinstance(value, float)


def test_a_job_from_its_first_word_to_its_last(world: World) -> None:
    world.things("first")
    with Device(world.port, "first") as device:
        assert device.accepted("$next/get", {"clientToken": "t"}).keys() == {"timestamp", "clientToken"}
        assert device.accepted("get").keys() == {"timestamp", "inProgressJobs", "queuedJobs"}
        create_job(world.iot, "first-1", "first")
        told = device.told()
        assert told.keys() == {"timestamp", "execution"}
        execution = told["execution"]
        assert execution.pop("queuedAt") == execution.pop("lastUpdatedAt") in EPOCH_SECONDS
        assert execution == {
            "jobId": "first-1",
            "thingName": "first",
            "status": "QUEUED",
            "versionNumber": 1,
            "executionNumber": 1,
            "jobDocument": DOCUMENT,
        }
        _, lists = device.hear("notify")
        assert lists["jobs"].keys() == {"QUEUED"}
        assert [one["jobId"] for one in lists["jobs"]["QUEUED"]] == ["first-1"]

        answer = device.accepted("$next/get", {"clientToken": "next"})
        assert (answer["clientToken"], answer["execution"]["jobDocument"]) == ("next", DOCUMENT)
        without = device.accepted("first-1/get", {"includeJobDocument": False, "executionNumber": 1})
        assert "jobDocument" not in without["execution"]

        # The first update goes straight to IN_PROGRESS, and says no more than it was asked for.
        assert device.accepted("first-1/update", {"status": "IN_PROGRESS"}).keys() == {"timestamp"}
        details = {"self_test": "ready", "updatedBy": "0x90000"}
        report = {"status": "IN_PROGRESS", "statusDetails": details, "includeJobExecutionState": True}
        answer = device.accepted("first-1/update", {**report, "includeJobDocument": True})
        state = {"status": "IN_PROGRESS", "statusDetails": details, "versionNumber": 3}
        assert (answer["executionState"], answer["jobDocument"]) == (state, DOCUMENT)
        # After a reboot: unchanged, and no key of ours among them.
        begun = device.accepted("$next/get")["execution"]
        assert (begun["status"], begun["statusDetails"]) == ("IN_PROGRESS", details)
        assert begun["startedAt"] in EPOCH_SECONDS
        pending = device.accepted("get")
        assert [one["versionNumber"] for one in pending["inProgressJobs"]] == [3]
        assert pending["queuedJobs"] == []

        device.accepted("first-1/update", {"status": "SUCCEEDED"})
        # Nothing at QUEUED → IN_PROGRESS, nothing at progress: this is the second that was told at all.
        assert device.told()["execution"] == {}


def test_only_another_next_job_is_told(world: World) -> None:
    """One notice at a start, or one at each progress, would have the OTA SDK begin again and again."""
    world.things("calm")
    with Device(world.port, "calm") as device:
        create_job(world.iot, "calm-1", "calm")
        assert device.told()["execution"]["jobId"] == "calm-1"
        create_job(world.iot, "calm-2", "calm")
        for number in range(3):
            details = {"receive": f"{number}/3"}
            device.accepted("calm-1/update", {"status": "IN_PROGRESS", "statusDetails": details})
        device.accepted("calm-1/update", {"status": "FAILED"})
        # After a terminal state the next one, with its document.
        told = device.told()["execution"]
        assert (told["jobId"], told["status"], told["jobDocument"]) == ("calm-2", "QUEUED", DOCUMENT)
        device.accepted("start-next")
        device.accepted("calm-2/update", {"status": "REJECTED"})
        assert device.told()["execution"] == {}


def test_the_list_is_told_when_it_changes(world: World) -> None:
    world.things("lists")
    with Device(world.port, "lists", wanted=("notify", "start-next/+", "+/update/+")) as device:
        create_job(world.iot, "lists-1", "lists")
        assert [one["jobId"] for one in device.hear("notify")[1]["jobs"]["QUEUED"]] == ["lists-1"]
        device.accepted("start-next")
        create_job(world.iot, "lists-2", "lists")
        _, told = device.hear("notify")
        (begun,), (queued,) = told["jobs"]["IN_PROGRESS"], told["jobs"]["QUEUED"]
        assert begun.keys() == {
            *("jobId", "queuedAt", "startedAt", "lastUpdatedAt", "versionNumber", "executionNumber")
        }
        assert queued.keys() == begun.keys() - {"startedAt"}
        assert (begun["jobId"], queued["jobId"]) == ("lists-1", "lists-2")
        device.accepted("lists-1/update", {"status": "SUCCEEDED"})
        assert device.hear("notify")[1]["jobs"].keys() == {"QUEUED"}
        world.iot.cancel_job(jobId="lists-2")
        assert device.hear("notify")[1]["jobs"] == {}


def test_the_next_job_is_the_one_in_progress(world: World) -> None:
    world.things("order")
    for number in (1, 2, 3):
        create_job(world.iot, f"order-{number}", "order")
    with Device(world.port, "order") as device:
        while len(device.accepted("get")["queuedJobs"]) < 3:
            time.sleep(0.05)
        assert device.accepted("$next/get")["execution"]["jobId"] == "order-1"
        device.accepted("order-3/update", {"status": "IN_PROGRESS"})
        assert device.accepted("$next/get")["execution"]["jobId"] == "order-3"
        started = device.accepted("start-next", {"statusDetails": {"not": "taken"}})["execution"]
        assert (started["jobId"], started["versionNumber"]) == ("order-3", 2)
        assert "statusDetails" not in started
        # Whether the device was there in time for the first or not, this was told last.
        while device.told()["execution"]["jobId"] != "order-3":
            pass


def test_start_next_begins_the_job_and_its_timer(world: World) -> None:
    world.things("starts")
    with Device(world.port, "starts") as device:
        assert device.accepted("start-next", {"clientToken": "x"}).keys() == {"timestamp", "clientToken"}
        create_job(world.iot, "starts-1", "starts")
        device.told()
        asked = {"statusDetails": {"a": "b"}, "stepTimeoutInMinutes": 5}
        begun = device.accepted("start-next", asked)["execution"]
        assert (begun["status"], begun["statusDetails"], begun["versionNumber"]) == (
            "IN_PROGRESS",
            {"a": "b"},
            2,
        )
        assert begun["jobDocument"] == DOCUMENT
        assert 270 <= begun["approximateSecondsBeforeTimedOut"] <= 300


@pytest.mark.parametrize("version", [1, "1"])
def test_an_expected_version_is_an_integer_or_text_of_one(world: World, version: object) -> None:
    thing = f"expects-{type(version).__name__}"
    world.things(thing)
    with Device(world.port, thing) as device:
        create_job(world.iot, thing, thing)
        device.told()
        update = {"status": "IN_PROGRESS", "expectedVersion": version, "clientToken": "rdy"}
        device.accepted(f"{thing}/update", update)
        # The same again, with the same token: it is at version 2 now.
        refused = device.rejected(f"{thing}/update", update)
        assert refused["code"] == "VersionMismatch"
        assert refused["executionState"] == {"status": "IN_PROGRESS", "versionNumber": 2}
        assert refused["clientToken"] == "rdy"
        assert refused["timestamp"] in EPOCH_SECONDS


def test_tokens_may_be_the_same_every_time(world: World) -> None:
    world.things("same")
    with Device(world.port, "same") as device:
        create_job(world.iot, "same", "same")
        device.told()
        versions = [
            device.accepted(
                "same/update",
                {"status": "IN_PROGRESS", "clientToken": "0:same", "includeJobExecutionState": True},
            )["executionState"]["versionNumber"]
            for _ in range(3)
        ]
        assert versions == [2, 3, 4]


def test_codes(world: World) -> None:
    world.things("codes", "codes-other")
    create_job(world.iot, "codes-2", "codes-other")
    with Device(world.port, "codes") as device:
        create_job(world.iot, "codes-1", "codes")
        device.told()
        for what, payload, code in (
            ("codes-1/update", {"status": "SUCCEEDED", "statusDetails": {"done": "yes"}}, None),
            ("codes-1/update", {"status": "IN_PROGRESS"}, "InvalidStateTransition"),
            ("codes-1/get", {}, "TerminalStateReached"),
            ("codes-2/get", {}, "ResourceNotFound"),
            ("codes-2/update", {"status": "SUCCEEDED"}, "ResourceNotFound"),
            ("nowhere/get", {}, "ResourceNotFound"),
            ("codes-1/get", {"executionNumber": 7}, "ResourceNotFound"),
            ("codes-1/update", {}, "InvalidRequest"),
            ("codes-1/update", {"status": "QUEUED"}, "InvalidRequest"),
            ("codes-1/update", {"status": "DONE"}, "InvalidRequest"),
            ("codes-1/update", {"status": "FAILED", "statusDetails": {"key": 1}}, "InvalidRequest"),
            ("codes-1/update", {"status": "FAILED", "statusDetails": {"k" * 129: "v"}}, "InvalidRequest"),
            ("codes-1/update", {"status": "FAILED", "statusDetails": {"k": ""}}, "InvalidRequest"),
            ("codes-1/update", {"status": "FAILED", "expectedVersion": "one"}, "InvalidRequest"),
            ("codes-1/update", {"status": "FAILED", "expectedVersion": 1 << 63}, "InvalidRequest"),
            ("codes-1/update", {"status": "FAILED", "stepTimeoutInMinutes": 0}, "InvalidRequest"),
            ("start-next", {"stepTimeoutInMinutes": 10081}, "InvalidRequest"),
            ("codes-1/get", {"includeJobDocument": "no"}, "InvalidRequest"),
            ("get", b"{", "InvalidJson"),
            ("get", b"[]", "InvalidJson"),
            ("get", b'{"a":1,"a":2}', "InvalidJson"),
            ("get", b"\xff", "InvalidJson"),
            ("get", b'{"clientToken":"' + b"x" * 65536 + b'"}', "InvalidRequest"),
            ("bad$id/get", {}, "InvalidTopic"),
            ("$next/update", {"status": "SUCCEEDED"}, "InvalidTopic"),
            ("j" * 65 + "/update", {"status": "SUCCEEDED"}, "InvalidTopic"),
        ):
            if isinstance(payload, dict):
                payload = {**payload, "clientToken": "mine"}
            kind, answer = device.ask(what, payload)
            assert answer.get("code") == code, (what, payload, answer)
            assert kind == what + ("/accepted" if code is None else "/rejected")
            assert answer["timestamp"] in EPOCH_SECONDS
            if isinstance(payload, dict):
                assert answer["clientToken"] == "mine"
            if code is not None:
                shown = {"code", "message", "timestamp", "clientToken", "executionState"}
                assert answer.keys() <= shown
                assert answer["message"]
            # Where AWS shows how the execution is, so that the device need not ask.
            assert ("executionState" in answer) == (code == "InvalidStateTransition")
        refused = device.rejected("codes-1/update", {"status": "IN_PROGRESS"})
        state = {"status": "SUCCEEDED", "statusDetails": {"done": "yes"}, "versionNumber": 2}
        assert refused["executionState"] == state


def test_what_asks_nothing_is_not_answered(world: World) -> None:
    world.things("silent")
    with Device(world.port, "silent", wanted=("get/+", "+/get/+", "+/update/+", "/update/+")) as device:
        device.send("/update", {"status": "SUCCEEDED"})
        device.send("/get", {})
        device.send("get", {"clientToken": "after"})
        assert device.next()[1]["clientToken"] == "after"


def test_retained_requests_are_not_answered(world: World) -> None:
    world.things("keeps")
    with Device(world.port, "keeps") as device:
        device.client.publish(device.start + "get", b"{}", 1, retain=True)
        device.hear("get/accepted")
        # Whoever subscribes gets it again, with its flag: the service that comes back after the broker did.
        assert device.accepted("get", {"clientToken": "after"})["clientToken"] == "after"


def test_messages_are_compact_and_strings_are_raw(world: World) -> None:
    """The SDK's parser hands strings on as they came, and its buffer is small."""
    world.things("raw")
    document = json.dumps(
        {
            "afr_ota": {
                "protocols": ["MQTT"],
                "streamname": "AFR_OTA-1",
                "files": [{"filepath": "/device/fw.bin", "sig-sha256-ecdsa": "MEQ+/w==", "size": 1.50}],
            }
        },
        indent=2,
    ).replace("/device", r"\/device\u002f")
    with Device(world.port, "raw", wanted=("$next/get/+", "notify-next")) as device:
        create_job(world.iot, "raw", "raw", document=document)
        for what in ("notify-next", "$next/get/accepted"):
            topic, payload = device.raw()
            assert topic == device.start + what
            text = payload.decode()
            assert '"filepath":"/device//fw.bin"' in text
            assert '"sig-sha256-ecdsa":"MEQ+/w==","size":1.5}' in text
            assert not re.search(r"\s|\\", text)
            assert len(text) - len(re.sub(r"\s", "", document)) < 300
            device.send("$next/get")


def test_every_number_is_an_integer(world: World) -> None:
    world.things("whole")
    with Device(world.port, "whole") as device:
        create_job(world.iot, "whole", "whole", timeoutConfig={"inProgressTimeoutInMinutes": 7})
        messages = [device.told(), device.hear("notify")[1], device.accepted("start-next")]
        messages += [device.accepted("get"), device.accepted("$next/get")]
        assert all(map(integers, messages))
        assert messages[-1]["execution"]["approximateSecondsBeforeTimedOut"] in range(360, 421)


def test_firmware_that_hears_notify_next_alone_gets_its_answer(world: World) -> None:
    world.things("ota-mast", "plain-mast")
    with (
        Device(world.port, "ota-mast", wanted=("notify-next",)) as unmodified,
        Device(world.port, "plain-mast") as plain,
    ):
        create_job(world.iot, "both", "ota-mast", "plain-mast")
        plain.told()
        token = {"clientToken": "0:ota-mast"}
        unmodified.send("$next/get", token)
        while True:
            told = unmodified.told()
            if told.get("clientToken") == token["clientToken"]:
                break
        assert told["execution"]["jobDocument"] == DOCUMENT
        unmodified.send("both/update", {"status": "SUCCEEDED"})
        while unmodified.told()["execution"]:
            pass
        # No job: no key, as AWS's answer has it.
        unmodified.send("$next/get", token)
        assert unmodified.told().keys() == {"timestamp", "clientToken"}
        # Whom the setting does not name gets its answer once.
        assert plain.accepted("$next/get", {"clientToken": "p"})["clientToken"] == "p"
        plain.accepted("both/update", {"status": "SUCCEEDED"})
        assert plain.told()["execution"] == {}


def test_an_unknown_thing_has_no_jobs(world: World) -> None:
    with Device(world.port, "nobody") as device:
        assert device.accepted("get")["queuedJobs"] == []
        assert "execution" not in device.accepted("$next/get")


def test_who_joins_a_group_gets_its_continuous_job_and_who_leaves_does_not(world: World) -> None:
    world.iot.create_thing_group(thingGroupName="joined")
    group = [arn("joined", "thinggroup")]
    create_job(world.iot, "for-members", targets=group, targetSelection="CONTINUOUS")
    world.things("member", "leaver", "passer")
    with (
        Device(world.port, "member") as member,
        Device(world.port, "leaver") as leaver,
        Device(world.port, "passer") as passer,
    ):
        for thing, device in (("member", member), ("leaver", leaver), ("passer", passer)):
            world.iot.add_thing_to_thing_group(thingName=thing, thingGroupName="joined")
            assert device.told()["execution"]["jobId"] == "for-members"
        world.iot.remove_thing_from_thing_group(thingName="leaver", thingGroupName="joined")
        assert leaver.told()["execution"] == {}
        world.iot.delete_thing(thingName="passer")
        assert passer.told()["execution"] == {}
        world.iot.delete_thing_group(thingGroupName="joined")
        assert member.told()["execution"] == {}
        kinds = {
            one["jobExecutionSummary"]["status"]
            for one in world.iot.list_job_executions_for_job(jobId="for-members")["executionSummaries"]
        }
        assert kinds == {"REMOVED"}


def test_one_that_asks_without_end_is_throttled_and_the_others_are_not(world: World) -> None:
    world.things("greedy", "modest")
    with Device(world.port, "greedy") as greedy, Device(world.port, "modest") as modest:
        for number in range(500):
            greedy.send("get", {"clientToken": str(number)})
        assert modest.accepted("get", {"clientToken": "once"})["clientToken"] == "once"
        answers = [greedy.hear("get/accepted", "get/rejected")[1] for _ in range(500)]
        codes = {answer.get("code") for answer in answers}
        assert codes <= {None, "RequestThrottled"}
        assert {answer["clientToken"] for answer in answers} == {str(number) for number in range(500)}


def test_health_and_metrics_show_it(world: World) -> None:
    with Device(world.port, "counted") as device:
        device.accepted("get")
        device.rejected("get", b"nothing")
    with urllib.request.urlopen(f"http://{world.service.http}/healthz", timeout=30) as answer:
        assert json.load(answer)["jobs"] == "connected"
    with urllib.request.urlopen(f"http://{world.service.http}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    counted = {line.rpartition(" ")[0] for line in lines if not line.endswith(" 0.0")}
    assert 'sluice_job_requests_total{operation="GetPendingJobExecutions"}' in counted
    assert 'sluice_job_rejections_total{code="InvalidJson"}' in counted
    assert "sluice_jobs_connected" in counted
