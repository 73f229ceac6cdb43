"""Streams and files to put into a registry."""

from datetime import UTC, datetime

from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.storage.objects import ObjectRef

NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)
ROLE = "arn:aws:iam::000000000000:role/sluice"


def a_file(
    file_id: int = 0, etag: str = "etag", size: int = 4096, version_id: str | None = None
) -> StreamFile:
    """A file of that id."""
    return StreamFile(file_id, ObjectRef("firmware", f"key/{file_id}", etag, version_id), size)


def create(registry: Registry, stream_id: str, *files: StreamFile, **tags: str) -> Stream:
    """A stream with those files (or one) and tags."""
    return registry.create_stream(
        stream_id, description="text", role_arn=ROLE, files=files or (a_file(),), tags=tags, now=NOON
    )
