"""The smallest request that makes sense, for each operation."""

from typing import Any

from tests.api.conforming import model_of
from tests.api.running import ROLE, arn, file_entry

SIGNED = {
    "signature": {"inlineDocument": b"sig"},
    "certificateChain": {"certificateName": "/cert.pem"},
    "hashAlgorithm": "SHA256",
    "signatureAlgorithm": "ECDSA",
}
IMAGE = {
    "fileName": "/fw.bin",
    "fileLocation": {"s3Location": {"bucket": "firmware", "key": "app.bin"}},
    "codeSigning": {"customCodeSigning": SIGNED},
}
VALUES: dict[str, Any] = {
    **dict.fromkeys(("streamId", "thingName", "thingTypeName", "thingGroupName", "jobId"), "x"),
    "otaUpdateId": "x",
    "roleArn": ROLE,
    "resourceArn": arn("x"),
    "tags": [{"Key": "k", "Value": "v"}],
    "tagKeys": ["k"],
    "targets": [arn("x", "thing")],
    "executionNumber": 1,
    "status": "FAILED",
    "thingGroupProperties": {},
}
MORE: dict[str, dict[str, Any]] = {
    "CreateStream": {"files": [file_entry()]},
    "CreateOTAUpdate": {"files": [IMAGE]},
    "CreateJob": {"document": "{}"},
    "AssociateTargetsWithJob": {"targets": [arn("x", "thinggroup")]},
    "AddThingToThingGroup": {"thingName": "x", "thingGroupName": "x"},
    "RemoveThingFromThingGroup": {"thingName": "x", "thingGroupName": "x"},
    "UpdateThingGroupsForThing": {"thingName": "x"},
}
"""What an operation needs beyond what its model requires, or in its place."""


def smallest(service: str, name: str) -> dict[str, Any]:
    """Its members; all of it is about `x`, with the object `app.bin` of bucket `firmware`."""
    shape = model_of(service).operation_model(name).input_shape
    more = MORE.get(name, {})
    return {member: VALUES[member] for member in shape.required_members if member not in more} | more
