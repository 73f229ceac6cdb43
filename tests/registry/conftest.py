"""A registry in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_bridge.registry.registry import Registry


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a database that is not made yet, in a folder that is not there yet."""
    return f"sqlite:///{tmp_path}/state/registry.db"


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    """An open, empty registry."""
    opened = Registry.open(url)
    yield opened
    opened.close()
