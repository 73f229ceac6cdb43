"""A registry with a thing, and a store with an image."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_bridge.registry.registry import Registry
from broker_bridge.storage.folder import FolderStore

IMAGE = b"an image" * 5000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """With the thing `t`."""
    opened = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    opened.things.create("t", type_name=None, attributes={})
    yield opened
    opened.close()


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """The folder of buckets, with `app.bin` in `firmware`."""
    folder = tmp_path / "objects"
    (folder / "firmware").mkdir(parents=True)
    (folder / "firmware" / "app.bin").write_bytes(IMAGE)
    return folder


@pytest.fixture
def store(objects: Path) -> Iterator[FolderStore]:
    """The store of `objects`."""
    opened = FolderStore(objects)
    yield opened
    opened.close()
