"""A real Mosquitto, and the model service on it."""

from collections.abc import Iterator

import pytest

from tests.conftest import MosquittoFactory
from tests.device_client.doing import CONTENT
from tests.device_client.model import Service
from tests.device_client.responder import Responder
from tests.support.mosquitto import MosquittoServer


@pytest.fixture
def broker(mosquitto: MosquittoFactory) -> MosquittoServer:
    return mosquitto()


@pytest.fixture
def responder(broker: MosquittoServer) -> Iterator[Responder]:
    with Responder(Service({0: CONTENT, 4: b"small"}), broker.port) as one:
        yield one


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count requests: a device that asks nothing twice because a machine is slow."""
    monkeypatch.setattr("device_client.download.FIRST_WAIT", 60_000)
