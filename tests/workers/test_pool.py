"""Workers that cannot begin."""

import asyncio
from pathlib import Path

import psutil
import pytest

from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.errors import BrokerUnreachable
from broker_bridge.opening import open_registry
from broker_bridge.settings import BrokerSettings, ServiceSettings
from broker_bridge.workers.pool import Pool, WorkersFailed
from tests.support.waiting import free_port


async def begin(settings: ServiceSettings, port: int) -> None:
    """Starts them and waits, and ends them in any case."""
    others = set(psutil.Process().children())
    pool = Pool(settings, BrokerAddress("127.0.0.1", port))
    pool.start()
    try:
        await pool.ready()
    finally:
        await pool.close()
        assert pool.health()[0] is False
        assert set(psutil.Process().children()) <= others


def test_without_a_broker(tmp_path: Path) -> None:
    settings = ServiceSettings(state=tmp_path, workers=2, broker=BrokerSettings(connect_timeout=5))
    registry = open_registry(settings)
    port = free_port()
    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
        asyncio.run(begin(settings, port))
    registry.close()


def test_without_a_registry(tmp_path: Path) -> None:
    settings = ServiceSettings(state=tmp_path, workers=2)
    with pytest.raises(WorkersFailed, match="database is not made yet"):
        asyncio.run(begin(settings, free_port()))
