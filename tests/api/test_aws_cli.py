"""The real `aws` command: once for each operation on streams, and some on things."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.api.running import ACCOUNT, REGION, ROLE, Running, arn
from tests.support.required import lacking


@pytest.fixture(scope="module")
def command() -> str:
    path = Path(sys.executable).with_name("aws")
    if not path.is_file():
        lacking("aws", "the aws command is not installed beside this Python")
    return str(path)


def run(command: str, api: Running, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [command, "iot", *arguments, "--endpoint-url", api.url, "--region", REGION, "--output", "json"],
        env={**os.environ, "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )


def told(command: str, api: Running, *arguments: str) -> Any:
    """What the command prints, where it ends well."""
    done = run(command, api, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_every_operation_on_streams(command: str, api: Running) -> None:
    aws = partial(told, command, api)

    files = "fileId=0,s3Location={bucket=firmware,key=app.bin}"
    create = ("create-stream", "--stream-id", "cli", "--role-arn", ROLE, "--files", files)
    assert aws(*create, "--description", "by hand", "--tags", "Key=a,Value=1") == {
        "streamId": "cli",
        "streamArn": arn("cli"),
        "description": "by hand",
        "streamVersion": 1,
    }
    assert aws("update-stream", "--stream-id", "cli")["streamVersion"] == 2
    info = aws("describe-stream", "--stream-id", "cli")["streamInfo"]
    assert info["files"] == [{"fileId": 0, "s3Location": {"bucket": "firmware", "key": "app.bin"}}]
    assert info["streamVersion"] == 2
    assert isinstance(info["createdAt"], float)
    listed = aws("list-streams", "--ascending-order", "--max-results", "5")["streams"]
    assert [stream["streamId"] for stream in listed] == ["cli"]
    assert aws("tag-resource", "--resource-arn", arn("cli"), "--tags", "Key=b,Value=2") is None
    assert aws("untag-resource", "--resource-arn", arn("cli"), "--tag-keys", "a") is None
    assert aws("list-tags-for-resource", "--resource-arn", arn("cli"))["tags"] == [{"Key": "b", "Value": "2"}]
    assert aws("describe-endpoint") == {"endpointAddress": "broker.example:1883"}
    assert aws("delete-stream", "--stream-id", "cli") is None


def test_an_error_is_shown_with_code_and_message(command: str, api: Running) -> None:
    done = run(command, api, "describe-stream", "--stream-id", "nothing")
    assert done.returncode != 0
    assert "(ResourceNotFoundException)" in done.stderr
    assert "there is no stream nothing" in done.stderr
    assert ACCOUNT not in done.stderr


def test_things_and_groups(command: str, api: Running) -> None:
    aws = partial(told, command, api)

    made = aws("create-thing", "--thing-name", "cli", "--attribute-payload", "attributes={site=north}")
    assert made["thingArn"] == arn("cli", "thing")
    aws("create-thing-group", "--thing-group-name", "cli", "--tags", "Key=a,Value=1")
    aws("add-thing-to-thing-group", "--thing-name", "cli", "--thing-group-name", "cli")
    assert aws("list-things-in-thing-group", "--thing-group-name", "cli", "--recursive") == {
        "things": ["cli"]
    }
    listed = aws("list-things", "--attribute-name", "site", "--attribute-value", "north")["things"]
    assert [(one["thingName"], one["version"]) for one in listed] == [("cli", 1)]
    done = run(command, api, "update-thing", "--thing-name", "cli", "--expected-version", "2")
    assert "(VersionConflictException)" in done.stderr
