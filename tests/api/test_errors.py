"""Every error that AWS's models name for an operation: provoked through boto3, or why it cannot occur."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore import xform_name
from structlog.testing import capture_logs

from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectForbidden, ObjectInfo
from tests.api.conforming import model_of
from tests.api.engine import settle
from tests.api.operations import EVERY
from tests.api.running import Running, arn, file_entry, refused
from tests.api.smallest import IMAGE, VALUES, smallest

IOT, DATA = "iot", "iot-jobs-data"
OPERATIONS = [(service, name) for service, names in EVERY.items() for name in sorted(names)]

NEVER = {
    "ThrottlingException": "Nobody's rate is limited. What is over the API's bounds is answered with 503, "
    "which AWS's clients try again too (test_http).",
    "InternalFailureException": "A fault of ours, whatever the operation: a store that raises what no store "
    "may is answered so (test_streams).",
    "CertificateValidationException": "Devices' certificates are checked by whoever ends their TLS.",
    "DeleteConflictException": "A stream may be deleted at any time; devices are told that it is gone.",
}
"""Errors that occur in no operation."""
NAMED = {
    (service, name, shape.name)
    for service, name in OPERATIONS
    for shape in model_of(service).operation_model(name).error_shapes
}
"""What the models say."""
NEVER_THERE = {
    **{
        one: "Who reaches the API may do everything; only objects may be out of the service's own reach."
        for one in NAMED
        if one[2] == "UnauthorizedException"
        and one[1] not in ("CreateStream", "UpdateStream", "CreateOTAUpdate")
    },
    (IOT, "DeleteThing", "ResourceNotFoundException"): "AWS too answers that it is done.",
    (DATA, "GetPendingJobExecutions", "ResourceNotFoundException"): "A thing nobody made has no jobs.",
    (DATA, "StartNextPendingJobExecution", "ResourceNotFoundException"): "A thing nobody made has no jobs.",
    (IOT, "CancelJob", "LimitExceededException"): "Any number of jobs may be canceled.",
    (IOT, "DeleteOTAUpdate", "VersionConflictException"): "Nothing is asked of its version.",
}
"""Errors that a model names for an operation and that occur in others only."""

BROKEN = {
    **{name: "x y" for name, value in VALUES.items() if value == "x"},
    "resourceArn": "x",
    "maxResults": 0,
    "endpointType": "x",
}
"""Values that break the model, or the rules, by the members that have them."""


class Secretive(FolderStore):
    """Shows nobody what is in the bucket `secret`."""

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        if bucket == "secret":
            raise ObjectForbidden("no")
        return super().head(bucket, key, version_id)


class Clients:
    """Clients of a running API that validate nothing themselves."""

    def __init__(self, api: Running) -> None:
        self.api = api
        self._clients = {service: api.client(validate=False, service=service) for service in EVERY}

    def call(self, service: str, name: str, **given: Any) -> Any:
        return getattr(self._clients[service], xform_name(name))(**(smallest(service, name) | given))

    def gets(self, error: str, service: str, name: str, **given: Any) -> str:
        """The message of the error that the call ends with, which is that one, as the model has it."""
        model, client = model_of(service), self._clients[service]
        with pytest.raises(getattr(client.exceptions, error)):
            self.call(service, name, **given)
        code, message, status = refused(lambda: self.call(service, name, **given))
        assert (code, status) == (error, model.shape_for(error).metadata["error"]["httpStatusCode"])
        assert message
        return message


@pytest.fixture(scope="module")
def empty(api: Running) -> Clients:
    """Nothing in the registry; nothing that is called is done."""
    return Clients(api)


def modelled(error: str) -> list[tuple[str, str]]:
    """The operations that the error can occur in, by the models and the tables above."""
    return sorted(one[:2] for one in NAMED if one[2] == error and one not in NEVER_THERE)


@pytest.mark.parametrize(("service", "name"), modelled("InvalidRequestException"))
def test_invalid_requests(empty: Clients, service: str, name: str) -> None:
    shape = model_of(service).operation_model(name).input_shape
    member = next(member for member in shape.members if member in BROKEN)
    message = empty.gets("InvalidRequestException", service, name, **{member: BROKEN[member]})
    assert message.startswith(f"{member}: ")


NOT_FOUND: dict[str, dict[str, Any]] = {
    "CreateThing": {"thingTypeName": "x"},
    "ListThingGroups": {"parentGroup": "x"},
    "ListJobs": {"thingGroupName": "x"},
    "CreateStream": {"files": [file_entry(bucket="gone")]},
}
"""What leads an operation that makes or lists things to something that is not there."""


@pytest.mark.parametrize(("service", "name"), modelled("ResourceNotFoundException"))
def test_resources_that_are_not_there(empty: Clients, service: str, name: str) -> None:
    empty.gets("ResourceNotFoundException", service, name, **NOT_FOUND.get(name, {}))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[Clients]:
    """A service whose database lost its tables while it ran."""
    running = Running(tmp_path_factory.mktemp("broken"))
    running.put("firmware", "app.bin", b"x")
    with closing(sqlite3.connect(running.folder / "registry.db")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if not table.startswith("sqlite_"):
                database.execute(f'DROP TABLE "{table}"')
        database.commit()
    # Each failure is logged with its trace, which takes a second to draw.
    with capture_logs():
        yield Clients(running)
    running.close()


@pytest.mark.parametrize(("service", "name"), [one for one in OPERATIONS if one[1] != "DescribeEndpoint"])
def test_a_registry_that_fails(broken: Clients, service: str, name: str) -> None:
    # Also where the model does not name the error: AWS's clients try again for its status.
    code, message, status = refused(lambda: broken.call(service, name))
    assert (code, status) == ("ServiceUnavailableException", 503)
    assert message == "the registry does not answer; try again"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[Clients]:
    """Everything is there once, as `x`. Thing `x` is at work on job `x`, thing `y` has ended it."""
    folder = tmp_path_factory.mktemp("world")
    running = Running(folder, store=Secretive(folder / "objects"))
    running.put("firmware", "app.bin", b"x")
    clients = Clients(running)
    for name in ("CreateThing", "CreateThingType", "CreateThingGroup", "CreateStream"):
        clients.call(IOT, name)
    clients.call(IOT, "CreateThing", thingName="y")
    clients.call(IOT, "CreateJob", targets=[arn("x", "thing"), arn("y", "thing")])
    clients.call(IOT, "CreateJob", jobId="on", targets=[arn("x", "thinggroup")], targetSelection="CONTINUOUS")
    clients.call(IOT, "CreateOTAUpdate")
    settle(running)
    clients.call(DATA, "UpdateJobExecution", status="IN_PROGRESS")
    clients.call(DATA, "UpdateJobExecution", thingName="y")
    yield clients
    running.close()


TAGS = [{"Key": f"k{i}", "Value": "v"} for i in range(51)]
SECRET = [file_entry(bucket="secret")]
SECRET_IMAGE = [IMAGE | {"fileLocation": {"s3Location": {"bucket": "secret", "key": "x"}}}]
OTHER = {"attributes": {"a": "1"}}
PROVOKED: list[tuple[str, str, str, dict[str, Any]]] = [
    (IOT, "CreateStream", "ResourceAlreadyExistsException", {}),
    (IOT, "CreateThing", "ResourceAlreadyExistsException", {"attributePayload": OTHER}),
    (
        *(IOT, "CreateThingType", "ResourceAlreadyExistsException"),
        {"thingTypeProperties": {"thingTypeDescription": "other"}},
    ),
    (
        *(IOT, "CreateThingGroup", "ResourceAlreadyExistsException"),
        {"thingGroupProperties": {"thingGroupDescription": "other"}},
    ),
    (IOT, "CreateJob", "ResourceAlreadyExistsException", {}),
    (IOT, "CreateOTAUpdate", "ResourceAlreadyExistsException", {}),
    (IOT, "CreateStream", "LimitExceededException", {"streamId": "many", "tags": TAGS}),
    (IOT, "TagResource", "LimitExceededException", {"tags": TAGS}),
    (IOT, "CreateJob", "LimitExceededException", {"jobId": "many", "tags": TAGS}),
    (IOT, "CreateOTAUpdate", "LimitExceededException", {"otaUpdateId": "many", "tags": TAGS}),
    (IOT, "UpdateThing", "VersionConflictException", {"expectedVersion": 9}),
    (IOT, "DeleteThing", "VersionConflictException", {"expectedVersion": 9}),
    (IOT, "UpdateThingGroup", "VersionConflictException", {"expectedVersion": 9}),
    (IOT, "DeleteThingGroup", "VersionConflictException", {"expectedVersion": 9}),
    (IOT, "CancelJobExecution", "VersionConflictException", {"expectedVersion": 9, "force": True}),
    (IOT, "DeleteJob", "InvalidStateTransitionException", {}),
    (IOT, "CancelJobExecution", "InvalidStateTransitionException", {}),
    (IOT, "DeleteJobExecution", "InvalidStateTransitionException", {}),
    (DATA, "UpdateJobExecution", "InvalidStateTransitionException", {"thingName": "y"}),
    (DATA, "DescribeJobExecution", "TerminalStateException", {"thingName": "y"}),
    (IOT, "CreateStream", "UnauthorizedException", {"streamId": "secret", "files": SECRET}),
    (IOT, "UpdateStream", "UnauthorizedException", {"files": SECRET}),
    (IOT, "CreateOTAUpdate", "UnauthorizedException", {"otaUpdateId": "s", "files": SECRET_IMAGE}),
]
ONES_OWN = [
    (IOT, "UpdateStream", "LimitExceededException"),
    (IOT, "DeleteJob", "LimitExceededException"),
    (IOT, "AssociateTargetsWithJob", "LimitExceededException"),
]
"""Provoked by tests of their own, below."""


@pytest.mark.parametrize(("service", "name", "error", "given"), PROVOKED)
def test_other_errors(world: Clients, service: str, name: str, error: str, given: dict[str, Any]) -> None:
    world.gets(error, service, name, **given)


def test_a_stream_has_so_many_versions(world: Clients) -> None:
    world.call(IOT, "CreateStream", streamId="old")
    with closing(sqlite3.connect(world.api.folder / "registry.db")) as database:
        database.execute("UPDATE streams SET version = 65535 WHERE stream_id = 'old'")
        database.commit()
    world.gets("LimitExceededException", IOT, "UpdateStream", streamId="old")


def test_so_many_jobs_are_deleted_at_once(world: Clients) -> None:
    for i in range(10):
        world.call(IOT, "CreateJob", jobId=f"gone-{i}")
        world.call(IOT, "DeleteJob", jobId=f"gone-{i}", force=True)
    said = world.gets("LimitExceededException", IOT, "DeleteJob", force=True)
    assert said == "10 jobs are being deleted, the maximum; try again"


def test_a_job_has_so_many_targets(world: Clients) -> None:
    for i in range(100):
        world.call(IOT, "CreateThingGroup", thingGroupName=f"g{i}")
    targets = [arn(f"g{i}", "thinggroup") for i in range(100)]
    said = world.gets("LimitExceededException", IOT, "AssociateTargetsWithJob", jobId="on", targets=targets)
    assert said == "targets: 101 are over the maximum of 100"


def test_every_modelled_error_is_provoked_or_cannot_occur() -> None:
    provoked = {(service, name, error) for service, name, error, _ in PROVOKED} | {*ONES_OWN}
    for error in ("InvalidRequestException", "ResourceNotFoundException", "ServiceUnavailableException"):
        provoked |= {(*one, error) for one in modelled(error)}
    assert {*NEVER_THERE} <= NAMED
    assert {*NEVER} <= {error for *_, error in NAMED}
    assert {one for one in NAMED if one[2] not in NEVER and one not in NEVER_THERE} == provoked
