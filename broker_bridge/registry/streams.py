"""A stream as the registry keeps it and delivery serves it."""

from dataclasses import dataclass
from datetime import datetime

from broker_bridge.pace import Pace
from broker_bridge.storage.objects import ObjectRef


@dataclass(frozen=True, slots=True)
class StreamFile:
    """One file of a stream: the object it is, and its size in bytes when the stream took it in."""

    file_id: int
    object: ObjectRef
    size: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream at one version: `files` by ascending id, versions from 1 (PROTOCOL "The control plane")."""

    stream_id: str
    version: int
    description: str | None
    role_arn: str
    files: tuple[StreamFile, ...]
    created_at: datetime
    updated_at: datetime
    pace: Pace | None = None
    """What its tags set, for every thing that reads it."""

    def file(self, file_id: int) -> StreamFile | None:
        """The file of that id, or None."""
        for file in self.files:
            if file.file_id == file_id:
                return file
        return None
