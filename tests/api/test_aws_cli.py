"""AWS's command line: every operation once, in the course of a fleet's life; and the command as a process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from botocore import xform_name

from tests.api.aws_command import AwsCommand, aws_command
from tests.api.engine import settle
from tests.api.operations import EVERY
from tests.api.running import ACCOUNT, REGION, ROLE, Running, arn
from tests.support.required import lacking


def test_every_operation(api: Running) -> None:
    with aws_command(api) as aws:
        streams(aws)
        things(aws)
        groups(aws)
        jobs(aws, api)
        executions(aws, api)
        updates(aws)
    assert aws.called == {
        (service, xform_name(name, "-")) for service, names in EVERY.items() for name in names
    }


def streams(aws: AwsCommand) -> None:
    one = ("--stream-id", "cli")
    files = "fileId=0,s3Location={bucket=firmware,key=app.bin}"
    create = (*one, "--role-arn", ROLE, "--files", files)
    assert aws("iot", "create-stream", *create, "--description", "Ünïcode", "--tags", "Key=a,Value=1") == {
        "streamId": "cli",
        "streamArn": arn("cli"),
        "description": "Ünïcode",
        "streamVersion": 1,
    }
    assert aws("iot", "update-stream", *one)["streamVersion"] == 2
    info = aws("iot", "describe-stream", *one)["streamInfo"]
    assert info["files"] == [{"fileId": 0, "s3Location": {"bucket": "firmware", "key": "app.bin"}}]
    assert info["streamVersion"] == 2
    assert isinstance(info["createdAt"], float)
    listed = aws("iot", "list-streams", "--ascending-order", "--max-results", "5")["streams"]
    assert [stream["streamId"] for stream in listed] == ["cli"]
    resource = ("--resource-arn", arn("cli"))
    assert aws("iot", "tag-resource", *resource, "--tags", "Key=b,Value=2") is None
    assert aws("iot", "untag-resource", *resource, "--tag-keys", "a") is None
    assert aws("iot", "list-tags-for-resource", *resource)["tags"] == [{"Key": "b", "Value": "2"}]
    assert aws("iot", "describe-endpoint") == {"endpointAddress": "broker.example:1883"}
    assert aws("iot", "delete-stream", *one) is None


def things(aws: AwsCommand) -> None:
    kind = ("--thing-type-name", "pump")
    described = "thingTypeDescription=a pump,searchableAttributes=site"
    made = aws("iot", "create-thing-type", *kind, "--thing-type-properties", described)
    assert made["thingTypeArn"] == arn("pump", "thingtype")
    changed = ("--thing-type-properties", "searchableAttributes=site,mast")
    assert aws("iot", "update-thing-type", *kind, *changed) is None
    assert aws("iot", "describe-thing-type", *kind)["thingTypeProperties"] == {
        "thingTypeDescription": "a pump",
        "searchableAttributes": ["site", "mast"],
    }
    (listed,) = aws("iot", "list-thing-types")["thingTypes"]
    assert not listed["thingTypeMetadata"]["deprecated"]

    one = ("--thing-name", "cli")
    made = aws("iot", "create-thing", *one, *kind, "--attribute-payload", "attributes={site=north}")
    assert made["thingArn"] == arn("cli", "thing")
    merged = ("--attribute-payload", "attributes={mast=7},merge=true", "--expected-version", "1")
    assert aws("iot", "update-thing", *one, *merged) is None
    assert aws("iot", "describe-thing", *one)["attributes"] == {"site": "north", "mast": "7"}
    status, _, said = aws.run("iot", "update-thing", *one, "--expected-version", "1")
    assert (status, "(VersionConflictException)" in said) == (255, True)
    filters = ("--attribute-name", "site", "--attribute-value", "no", "--use-prefix-attribute-value")
    (found,) = aws("iot", "list-things", *filters)["things"]
    assert (found["thingName"], found["version"]) == ("cli", 2)

    assert aws("iot", "update-thing", *one, "--remove-thing-type") is None
    assert aws("iot", "deprecate-thing-type", *kind) is None
    assert aws("iot", "delete-thing-type", *kind) is None
    assert aws("iot", "create-thing", "--thing-name", "brief")["thingName"] == "brief"
    assert aws("iot", "delete-thing", "--thing-name", "brief") is None


def groups(aws: AwsCommand) -> None:
    above, below = ("--thing-group-name", "masts"), ("--thing-group-name", "north")
    one = ("--thing-name", "cli")
    made = aws("iot", "create-thing-group", *above, "--tags", "Key=a,Value=1")
    assert made["thingGroupArn"] == arn("masts", "thinggroup")
    aws("iot", "create-thing-group", *below, "--parent-group-name", "masts")
    properties = ("--thing-group-properties", "thingGroupDescription=cold")
    assert aws("iot", "update-thing-group", *below, *properties) == {"version": 2}
    shown = aws("iot", "describe-thing-group", *below)
    assert shown["thingGroupProperties"] == {"thingGroupDescription": "cold"}
    assert shown["thingGroupMetadata"]["parentGroupName"] == "masts"
    listed = aws("iot", "list-thing-groups", "--no-recursive", "--parent-group", "masts")["thingGroups"]
    assert [group["groupName"] for group in listed] == ["north"]

    assert aws("iot", "add-thing-to-thing-group", *one, *below) is None
    members = aws("iot", "list-things-in-thing-group", *above, "--recursive")
    assert members == {"things": ["cli"]}
    (of_thing,) = aws("iot", "list-thing-groups-for-thing", *one)["thingGroups"]
    assert of_thing["groupName"] == "north"
    assert aws("iot", "remove-thing-from-thing-group", *one, *below) is None
    assert aws("iot", "update-thing-groups-for-thing", *one, "--thing-groups-to-add", "masts") is None
    assert aws("iot", "list-things-in-thing-group", *above) == {"things": ["cli"]}
    assert aws("iot", "delete-thing-group", *below) is None


ABORT = (
    '{"criteriaList":[{"failureType":"FAILED","action":"CANCEL",'
    '"thresholdPercentage":20,"minNumberOfExecutedThings":100}]}'
)


def jobs(aws: AwsCommand, api: Running) -> None:
    one = ("--job-id", "cli")
    aws("iot", "create-thing", "--thing-name", "alone")
    targets = ("--targets", arn("masts", "thinggroup"), arn("alone", "thing"))
    rollout = ("--job-executions-rollout-config", "maximumPerMinute=1000", "--abort-config", ABORT)
    kind = ("--target-selection", "CONTINUOUS", "--document", '{"a":1}')
    assert aws("iot", "create-job", *one, *targets, *kind, *rollout)["jobArn"] == arn("cli", "job")
    settle(api)
    job = aws("iot", "describe-job", *one)["job"]
    assert job["jobProcessDetails"]["numberOfQueuedThings"] == 2
    assert job["abortConfig"]["criteriaList"][0]["thresholdPercentage"] == 20
    assert aws("iot", "get-job-document", *one) == {"document": '{"a":1}'}
    assert aws("iot", "update-job", *one, "--timeout-config", "inProgressTimeoutInMinutes=9") is None
    listed = aws("iot", "list-jobs", "--status", "IN_PROGRESS")["jobs"]
    assert [job["jobId"] for job in listed] == ["cli"]
    more = ("--targets", arn("masts", "thinggroup"))
    assert aws("iot", "associate-targets-with-job", *one, *more)["jobId"] == "cli"
    why = ("--reason-code", "R", "--comment", "c", "--force")
    assert aws("iot", "cancel-job", *one, *why)["jobId"] == "cli"
    assert aws("iot", "delete-job", *one) is None


def executions(aws: AwsCommand, api: Running) -> None:
    one = ("--job-id", "cli-2")
    targets = ("--targets", arn("cli", "thing"), arn("alone", "thing"))
    aws("iot", "create-job", *one, *targets, "--document", '{"a":1}')
    settle(api)
    cli, alone = ("--thing-name", "cli"), ("--thing-name", "alone")
    (pending,) = aws("iot-jobs-data", "get-pending-job-executions", *cli)["queuedJobs"]
    assert (pending["jobId"], pending["versionNumber"]) == ("cli-2", 1)
    begin = ("--status-details", "at=mast", "--step-timeout-in-minutes", "5")
    begun = aws("iot-jobs-data", "start-next-pending-job-execution", *cli, *begin)["execution"]
    assert (begun["status"], begun["jobDocument"]) == ("IN_PROGRESS", '{"a":1}')
    next_one = ("--job-id", "$next", "--no-include-job-document")
    shown: Any = aws("iot-jobs-data", "describe-job-execution", *cli, *next_one)["execution"]
    assert (shown["statusDetails"], "jobDocument" in shown) == ({"at": "mast"}, False)
    report = ("--status", "SUCCEEDED", "--expected-version", "2", "--include-job-execution-state")
    assert aws("iot-jobs-data", "update-job-execution", *one, *cli, *report) == {
        "executionState": {"status": "SUCCEEDED", "statusDetails": {"at": "mast"}, "versionNumber": 3}
    }

    assert aws("iot", "describe-job-execution", *one, *cli)["execution"]["status"] == "SUCCEEDED"
    assert len(aws("iot", "list-job-executions-for-job", *one)["executionSummaries"]) == 2
    assert len(aws("iot", "list-job-executions-for-thing", *alone)["executionSummaries"]) == 1
    assert aws("iot", "cancel-job-execution", *one, *alone, "--status-details", "why=so") is None
    assert aws("iot", "delete-job-execution", *one, *alone, "--execution-number", "1") is None
    assert len(aws("iot", "list-job-executions-for-job", *one)["executionSummaries"]) == 1


SIGNED = (
    "fileName=/fw.bin,fileLocation={s3Location={bucket=firmware,key=app.bin}},"
    "codeSigning={customCodeSigning={signature={inlineDocument=c2ln},"
    "certificateChain={certificateName=/cert.pem},hashAlgorithm=SHA256,signatureAlgorithm=ECDSA}}"
)


def updates(aws: AwsCommand) -> None:
    one = ("--ota-update-id", "cli")
    to = ("--targets", arn("masts", "thinggroup"), "--role-arn", ROLE, "--protocols", "MQTT")
    made = aws("iot", "create-ota-update", *one, *to, "--files", SIGNED)
    assert made["otaUpdateArn"] == arn("cli", "otaupdate")
    info = aws("iot", "get-ota-update", *one)["otaUpdateInfo"]
    assert info["otaUpdateFiles"][0]["fileName"] == "/fw.bin"
    assert info["targets"] == [arn("masts", "thinggroup")]
    listed = aws("iot", "list-ota-updates", "--max-results", "5")["otaUpdates"]
    assert [update["otaUpdateId"] for update in listed] == ["cli"]
    assert aws("iot", "delete-ota-update", *one, "--delete-stream", "--force-delete-aws-job") is None


def test_the_command_as_a_process_shows_code_and_message(api: Running) -> None:
    command = Path(sys.executable).with_name("aws")
    if not command.is_file():
        lacking("aws", "the aws command is not installed beside this Python")
    asked = ("iot", "describe-stream", "--stream-id", "nothing")
    done = subprocess.run(
        [str(command), *asked, "--endpoint-url", api.url, "--region", REGION],
        env={**os.environ, "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode != 0
    assert "(ResourceNotFoundException)" in done.stderr
    assert "there is no stream nothing" in done.stderr
    assert ACCOUNT not in done.stderr
