"""An OTA update as the rules, the registry and the API see it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from broker_bridge.storage.objects import ObjectRef

PREFIX = "AFR_OTA-"
"""What the ids of jobs and streams that an update makes begin with (AWS). Firmware looks for it."""
MAX_JOB_ID = 64
"""Characters of a job's id (DEVICES "Jobs and OTA", 6)."""
MAX_ID = MAX_JOB_ID - len(PREFIX)
"""Characters of an update's id: its job's has to fit."""


class UpdateStatus(StrEnum):
    """AWS's `OTAUpdateStatus`."""

    CREATE_PENDING = "CREATE_PENDING"
    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    CREATE_FAILED = "CREATE_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_FAILED = "DELETE_FAILED"


CREATING = (UpdateStatus.CREATE_PENDING, UpdateStatus.CREATE_IN_PROGRESS)
"""In which an update is being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature as a job document has it."""

    key: str
    """The document's member, which says how it was made: `sig-sha256-ecdsa`, …"""
    text: str
    """Base64."""
    certificate_path: str
    """Where devices have the certificate that it is checked with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Signed by the operator (`customCodeSigning`)."""

    signature: Signature
    public_key: str | None = None
    """PEM of what the signature is checked with before a job is made; None: it is not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByProfile:
    """To be signed by a key that the service has (`startSigningJobParameter`)."""

    profile: str
    certificate_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFile:
    """A file of an update: the bytes that its object had when the update was created, and no others."""

    file_id: int
    """In the stream, 0 to 255."""
    path: str
    """What devices know it by: `filepath`."""
    file_type: int | None = None
    """0 to 255."""
    object: ObjectRef
    size: int
    """Bytes, at least 1."""
    signing: Given | ByProfile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be made. It does not change."""

    description: str | None = None
    role_arn: str
    protocols: tuple[str, ...]
    """`MQTT`, `HTTP` or both, in the order given."""
    things: tuple[str, ...]
    groups: tuple[str, ...]
    continuous: bool
    job_config: str
    """The job's configurations, as `registry.jobs.create` takes them."""
    files: tuple[UpdateFile, ...]
    stream_id: str | None
    """The stream that devices get the files from; None: none, with HTTP alone."""
    makes_stream: bool
    """Whether the stream is the update's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtaUpdate:
    """An update as it stands."""

    number: int
    """In the order of creation; known inside alone."""
    ota_update_id: str
    status: UpdateStatus
    plan: Plan
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, by the names of the model's `OTAUpdateInfo`."""
    document: str | None = None
    """The job's document; None: not made yet."""
    error: tuple[str, str] | None = None
    """Code and message of what failed."""
    delete_stream: bool = False
    force_delete: bool = False
    created_at: datetime
    updated_at: datetime

    @property
    def job_id(self) -> str:
        """The id of its job, which may not be there yet, or any more."""
        return job_id(self.ota_update_id)


def job_id(ota_update_id: str) -> str:
    """The id of an update's job."""
    return PREFIX + ota_update_id


def new_stream_id() -> str:
    """An id for an update's own stream: 44 characters, the most that AWS's C library has room for."""
    return f"{PREFIX}{uuid.uuid4()}"
