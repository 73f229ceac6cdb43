"""Streams and files, things and groups to put into a registry."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from broker_bridge.registry.pages import Page
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.registry.thing_groups import ThingGroup
from broker_bridge.registry.things import Thing
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


def thing(registry: Registry, name: str, type_name: str | None = None, **attributes: str) -> Thing:
    """A thing of that type with those attributes."""
    return registry.things.create(name, type_name=type_name, attributes=attributes)


def group(registry: Registry, name: str, parent: str | None = None, **tags: str) -> ThingGroup:
    """A group below that parent with those tags."""
    return registry.thing_groups.create(
        name, parent=parent, description=None, attributes={}, tags=tags, now=NOON
    )


def thing_type(registry: Registry, name: str) -> None:
    """A thing type of that name."""
    registry.thing_types.create(name, description=None, searchable_attributes=(), tags={}, now=NOON)


def every(read: Callable[[str | None], Page[Any]]) -> list[Any]:
    """What is on all pages."""
    found: list[Any] = []
    after: str | None = None
    for _ in range(1000):
        page = read(after)
        found += page.items
        after = page.after
        if after is None:
            return found
        assert page.items
    raise AssertionError("the pages have no end")
