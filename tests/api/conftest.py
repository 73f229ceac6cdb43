"""A running API for each module; streams of different tests have different names."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.ota import IMAGE, Updates
from tests.api.running import ROLE, Running, file_entry
from tests.ota.making import making, profiles


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


@pytest.fixture(scope="module")
def updates(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[Updates]:
    """OTA updates, with their image in a folder and a key of each kind."""
    signers = profiles("ecdsa", "rsa")
    running = Running(tmp_path_factory.mktemp("ota"), signing=signers)
    running.put("firmware", "app.bin", IMAGE)
    running.put("firmware", "second.bin", b"second")
    running.put("firmware", "empty.bin", b"")
    with making(running.registry, running.context.store, signers):
        made = Updates(running)
        made.iot.create_stream(streamId="mine", files=[file_entry(7)], roleArn=ROLE)
        yield made
    running.close()
