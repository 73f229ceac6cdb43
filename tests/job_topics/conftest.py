"""A service on a real Mosquitto, for all tests that ask no other: each takes things and jobs of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.job_topics.living import operator
from tests.sluice.support import Service
from tests.support.mosquitto import MosquittoServer

SETTINGS = """
[jobs]
answer_next_on_notify = ["ota-*"]
"""


@dataclass(frozen=True)
class World:
    """Where devices and operators reach it."""

    service: Service
    port: int
    iot: Any

    def things(self, *names: str) -> None:
        """Those things, made."""
        for name in names:
            self.iot.create_thing(thingName=name)


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[World]:
    """A running service."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "sluice.toml").write_text(SETTINGS)
    broker = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    try:
        with Service(folder, "--broker", broker.url) as service:
            yield World(service, broker.port, operator(service.http))
    finally:
        broker.close()
