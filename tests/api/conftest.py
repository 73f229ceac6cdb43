"""A running API for each module; streams of different tests have different names."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.running import Running


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[Running]:
    """With objects `app.bin` (5,000 bytes) and `conf.json` (0 bytes) in the bucket `firmware`."""
    running = Running(tmp_path_factory.mktemp("api"))
    running.put("firmware", "app.bin", b"x" * 5000)
    running.put("firmware", "conf.json", b"")
    yield running
    running.close()


@pytest.fixture(scope="module")
def iot(api: Running) -> Any:
    """A boto3 client as anybody has it."""
    return api.client()


@pytest.fixture(scope="module")
def lax(api: Running) -> Any:
    """A boto3 client that validates nothing."""
    return api.client(validate=False)
