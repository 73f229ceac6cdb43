"""The connection against scripted brokers on real sockets: refusals, silence, new starts."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.errors import BrokerRefused, BrokerUnreachable
from tests.mqtt.support import REJECTED, Peer, Recorder, connected, scripted_broker, until
from tests.support.waiting import free_port

V5_CONNACK = b"\x20\x03\x00\x00\x00"


@asynccontextmanager
async def failing(url: str, **options: Any) -> AsyncIterator[tuple[Connection, BaseException]]:
    """A connection whose first attempt fails, and how."""
    async with connected(url, Recorder(), ready=False, **options) as connection:
        with pytest.raises((BrokerRefused, BrokerUnreachable)) as caught:
            await connection.wait_ready(30)
        yield connection, caught.value


async def test_nothing_listens() -> None:
    port = free_port()
    async with failing(f"mqtt://u:s3cret@127.0.0.1:{port}") as (connection, error):
        assert str(error) == f"127.0.0.1:{port}: connection refused: nothing listens there"
        assert isinstance(error, BrokerUnreachable)
        assert connection.stats.last_error == str(error)
        assert not connection.publish(REJECTED, b"{}")
        assert connection.stats.control_dropped == 1


async def test_a_host_that_does_not_exist() -> None:
    async with failing("mqtt://no-such-host.invalid") as (_, error):
        assert isinstance(error, BrokerUnreachable)
        assert str(error).startswith("no-such-host.invalid:1883: the host name cannot be resolved")


@pytest.mark.parametrize(
    ("connack", "says"),
    [
        (b"\x20\x03\x00\x86\x00", "bad user name or password (0x86)"),
        (b"\x20\x03\x00\x87\x00", "not authorized (0x87)"),
        (b"\x20\x03\x00\x88\x00", "server unavailable (0x88)"),
    ],
)
async def test_refused(connack: bytes, says: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect(0x10)
        peer.send(connack)
        await peer.reader.read()

    async with scripted_broker(script) as url:
        with_password = url.replace("mqtt://", "mqtt://user:s3cret@")
        async with failing(with_password) as (connection, error):
            assert isinstance(error, BrokerRefused)
            assert says in str(error)
            assert "s3cret" not in str(error) + connection.stats.last_error
            assert connection.stats.version == 5


async def test_a_refused_subscription_is_named() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect(0x10)
        peer.send(V5_CONNACK)
        subscribe = await peer.expect(0x82)
        peer.send(b"\x90\x05" + subscribe[:2] + b"\x00\x01\x87")
        await peer.reader.read()

    async with scripted_broker(script) as url, failing(url) as (_, error):
        assert isinstance(error, BrokerRefused)
        assert "subscription to $aws/things/+/streams/+/describe/+ refused: not authorized (0x87)" in str(
            error
        )


async def test_a_broker_that_never_answers() -> None:
    connects: list[int] = []

    async def script(peer: Peer) -> None:
        connects.append((await peer.expect(0x10))[6])
        await peer.reader.read()

    async with scripted_broker(script) as url, failing(url, answer_timeout=0.2) as (connection, error):
        assert "did not answer CONNECT" in str(error)
        await until(lambda: len(connects) >= 3, "it goes on trying")
        assert connects[:3] == [5, 4, 4]
        assert connection.stats.version == 4


async def test_subscribe_never_answered() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect(0x10)
        peer.send(V5_CONNACK)
        await peer.reader.read()

    async with scripted_broker(script) as url, failing(url, answer_timeout=0.2) as (_, error):
        assert "did not answer SUBSCRIBE" in str(error)


async def test_what_speaks_no_mqtt() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect(0x10)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.reader.read()

    async with scripted_broker(script) as url, failing(url) as (_, error):
        assert isinstance(error, BrokerUnreachable)
        assert "malformed packet" in str(error)


async def test_plain_tcp_where_tls_is_expected() -> None:
    async def script(peer: Peer) -> None:
        peer.send(b"not TLS at all\r\n")
        await peer.reader.read()

    async with scripted_broker(script) as url, failing(url.replace("mqtt:", "mqtts:")) as (_, error):
        assert isinstance(error, BrokerUnreachable)
        assert "TLS: " in str(error)


@pytest.mark.parametrize("answer", [b"", b"\x20\x02\x00\x01", b"\x20\x02\x00\x02", b"\x20\x03\x00\x84\x00"])
async def test_a_refusal_of_mqtt_5_means_311_from_then_on(answer: bytes) -> None:
    versions: list[int] = []

    async def script(peer: Peer) -> None:
        if len(versions) == 0:
            versions.append((await peer.expect(0x10))[6])
            peer.send(answer)
            return
        versions.append((await peer.accept(b"\x20\x02\x00\x00"))[6])
        if len(versions) < 4:
            return  # closes: it is tried again
        await peer.reader.read()

    handler = Recorder()
    async with scripted_broker(script) as url, connected(url, handler, ready=False) as connection:
        await until(lambda: len(versions) == 4 and connection.stats.connected, "the fourth connection")
        assert versions == [5, 4, 4, 4]
        assert connection.stats.connects == 3


async def test_the_servers_reason_for_disconnecting_is_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(b"\xe0\x01\x8e")
        await peer.reader.read()

    async with (
        scripted_broker(script) as url,
        connected(url, Recorder(), ready=False, backoff=(60, 60)) as connection,
    ):
        await until(lambda: connection.stats.failures, "the disconnect")
        assert "session taken over" in connection.stats.last_error


async def test_an_unanswered_ping_ends_the_connection() -> None:
    pings = 0

    async def script(peer: Peer) -> None:
        nonlocal pings
        await peer.accept(b"\x20\x06\x00\x00\x03\x13\x00\x01")  # Server Keep Alive: 1 s
        while True:
            first, _ = await peer.packet()
            if first == 0xE0:
                return
            assert first == 0xC0
            pings += 1
            if pings == 1:
                peer.send(b"\xd0\x00")

    async with scripted_broker(script) as url, connected(url, Recorder(), backoff=(60, 60)) as connection:
        await until(lambda: connection.stats.failures, "the end")
        assert pings == 2
        assert "ping" in connection.stats.last_error


async def test_close_while_it_waits_to_try_again() -> None:
    connection = Connection(
        BrokerAddress("127.0.0.1", free_port()),
        Recorder(),
        subscriptions=[],
        client_id="c",
        backoff=(600, 600),
    )
    running = asyncio.create_task(connection.run())
    with pytest.raises(BrokerUnreachable):
        await connection.wait_ready(30)
    await connection.close()
    await asyncio.wait_for(running, 20)


async def test_cancelling_run_leaves_no_connection() -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        try:
            await peer.reader.read()
        finally:
            closed.set()

    async with scripted_broker(script) as url:
        connection = Connection(
            BrokerAddress.parse(url), Recorder(), subscriptions=[("a", 1), ("b", 1)], client_id="c"
        )
        running = asyncio.create_task(connection.run())
        await connection.wait_ready(30)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.wait_for(closed.wait(), 20)


async def test_wait_ready_is_bounded() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read()

    async with scripted_broker(script) as url, connected(url, Recorder(), ready=False) as connection:
        with pytest.raises(BrokerUnreachable, match=re.escape("no connection within 0.05 s")):
            await connection.wait_ready(0.05)


async def test_tls_settings_are_the_systems_by_default() -> None:
    connection = Connection(BrokerAddress("h", 8883, tls=True), Recorder(), subscriptions=[], client_id="c")
    assert connection._tls is not None
    assert connection._tls.verify_mode is ssl.CERT_REQUIRED
    assert connection._tls.check_hostname
