"""The embedded broker: `$aws/` topics, the smaller QoS, its port, and that nothing outlives the service."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

import broker_bridge
from broker_bridge.embedded import EmbeddedBroker, EmbeddedBrokerError, PortTaken, broker
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.turn import Turn
from tests.support.waiting import accepts, wait_until

T = TypeVar("T")
DATA = "$aws/things/t/streams/s/data/cbor"
GET = "$aws/things/t/streams/s/get/cbor"


async def within_loop(call: Callable[[], T]) -> T:
    """Runs what blocks beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, call)


class Listener:
    """A paho client subscribed to one filter."""

    def __init__(self, port: int, topic_filter: str, qos: int) -> None:
        self.got: list[tuple[str, bytes, int, bool]] = []
        self.subscribed = False
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _client, _data, message: self.got.append(
            (message.topic, bytes(message.payload), message.qos, message.retain)
        )
        self.client.on_connect = lambda *_: print("subscribed", self.client.subscribe(topic_filter, qos))
        self.client.on_subscribe = lambda *_: setattr(self, "subscribed", True)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        wait_until(lambda: self.subscribed, what="a subscription")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@asynccontextmanager
async def listeners(*wanted: tuple[int, str, int]) -> AsyncIterator[list[Listener]]:
    made = [await within_loop(lambda one=one: Listener(*one)) for one in wanted]  # type: ignore[misc]
    try:
        yield made
    finally:
        for listener in made:
            await within_loop(listener.close)


def ended(pid: int) -> bool:
    """Whether the process is gone, or nobody has yet asked for its exit status."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_the_smaller_qos_and_wildcards_of_ones_own() -> None:
    async def scenario() -> None:
        async with await EmbeddedBroker.start(port=0) as embedded:
            port = embedded.address.port
            async with listeners(
                (port, "$aws/things/t/streams/#", 0),
                (port, "$aws/things/+/streams/+/data/+", 1),
                (port, DATA, 1),
                (port, "#", 1),
            ) as [at_0, at_1, exact, everything]:
                for qos in (0, 1):
                    at_0.client.publish(DATA, b"%d" % qos, qos)
                at_0.client.publish("plain", b"end", 1)
                for listener, highest in ((at_0, 0), (at_1, 1), (exact, 1)):
                    await within_loop(lambda one=listener: wait_until(lambda: len(one.got) == 2))  # type: ignore[misc]
                    assert sorted(listener.got) == [(DATA, b"%d" % q, min(q, highest), False) for q in (0, 1)]
                await within_loop(lambda: wait_until(lambda: everything.got))
                # "#" does not stand for topics that begin with "$" (MQTT 3.1.1, 4.7.2).
                assert [topic for topic, *_ in everything.got] == ["plain"]

    run(scenario())


def test_large_messages_come_in_order() -> None:
    async def scenario() -> None:
        async with await EmbeddedBroker.start(port=0) as embedded:
            port = embedded.address.port
            async with listeners((port, DATA, 0)) as [listener]:
                blocks = [bytes([i]) * 131072 for i in range(50)]
                for block in blocks:
                    listener.client.publish(DATA, block, 0)
                await within_loop(lambda: wait_until(lambda: len(listener.got) == 50))
                assert [payload for _, payload, *_ in listener.got] == blocks

    run(scenario())


def test_other_dollar_topics_stay_refused() -> None:
    async def scenario() -> None:
        async with await EmbeddedBroker.start(port=0) as embedded:
            port = embedded.address.port
            async with listeners((port, "$SYS/x", 1), (port, "$awsome/x", 1), (port, "end", 1)) as heard:
                for topic in ("$SYS/x", "$awsome/x"):
                    # A client for each: amqtt stops hearing one that has tried.
                    async with listeners((port, "unused", 0)) as [offender]:
                        sent = offender.client.publish(topic, b"x", 1)
                        await within_loop(lambda one=sent: wait_until(one.is_published))  # type: ignore[misc]
                heard[2].client.publish("end", b"2", 1)
                await within_loop(lambda: wait_until(lambda: (("end", b"2", 1, False)) in heard[2].got))
                assert heard[0].got == heard[1].got == []

    run(scenario())


def test_retained_is_kept_as_on_other_topics() -> None:
    async def scenario() -> None:
        async with await EmbeddedBroker.start(port=0) as embedded:
            port = embedded.address.port
            async with listeners((port, DATA, 1)) as [first]:
                first.client.publish(DATA, b"kept", 1, retain=True)
                await within_loop(lambda: wait_until(lambda: first.got))
                async with listeners((port, DATA, 1)) as [late]:
                    await within_loop(lambda: wait_until(lambda: late.got))
                    # amqtt sends it at connecting too, once for every client's filter.
                    assert {(topic, payload, retain) for topic, payload, _, retain in late.got} == {
                        (DATA, b"kept", True)
                    }

    run(scenario())


class Echo:
    """A handler that answers each request with two blocks and a rejection."""

    def __init__(self) -> None:
        self.connection: Connection
        self.pending: list[Turn] = []
        self.sizes: list[int] = []

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def received(self, topic: str, payload: bytes, size: int) -> None:
        self.sizes.append(size)
        self.pending.append(Turn(DATA.encode(), b"", [b"1", b"2"], [payload, payload]))
        self.connection.publish("$aws/things/t/streams/s/rejected/json", b"{}")
        self.connection.wake()

    def next_turn(self, max_messages: int) -> Turn | None:
        return self.pending.pop() if self.pending else None


def test_the_services_connection_takes_311() -> None:
    async def scenario() -> None:
        handler = Echo()
        async with await EmbeddedBroker.start(port=0) as embedded:
            connection = Connection(
                embedded.address,
                handler,
                subscriptions=[("$aws/things/+/streams/+/get/+", 1)],
                client_id="sluice",
            )
            handler.connection = connection
            running = asyncio.create_task(connection.run())
            await connection.wait_ready(30)
            assert connection.stats.version == 4
            async with listeners((embedded.address.port, "$aws/things/t/streams/#", 1)) as [device]:
                device.client.publish(GET, b"request", 0)
                await within_loop(lambda: wait_until(lambda: len(device.got) == 4))
                assert sorted(device.got) == [
                    (DATA, b"1request", 0, False),
                    (DATA, b"2request", 0, False),
                    (GET, b"request", 0, False),
                    ("$aws/things/t/streams/s/rejected/json", b"{}", 1, False),
                ]
                device.client.publish(GET, bytes(100_000), 1)
                await within_loop(lambda: wait_until(lambda: handler.sizes == [7, 100_000]))
            await connection.close(5)
            await asyncio.wait_for(running, 20)

    run(scenario())


def test_a_taken_port_is_named() -> None:
    async def scenario() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(PortTaken, match=f"127.0.0.1:{port}: the port is taken"):
                await EmbeddedBroker.start(port=port)

    run(scenario())


def test_a_host_that_is_not_ours() -> None:
    async def scenario() -> None:
        # TEST-NET-1 (RFC 5737): nobody's address.
        with pytest.raises(EmbeddedBrokerError, match=r"192\.0\.2\.1:0"):
            await EmbeddedBroker.start("192.0.2.1", 0)

    run(scenario())


def test_its_end_is_noticed_and_stop_is_harmless() -> None:
    async def scenario() -> None:
        embedded = await EmbeddedBroker.start(port=0)
        # Ctrl-C and service managers signal the whole group; the broker must outlive the service.
        os.kill(embedded.pid, signal.SIGINT)
        os.kill(embedded.pid, signal.SIGTERM)
        async with listeners((embedded.address.port, DATA, 0)):
            pass
        os.kill(embedded.pid, signal.SIGKILL)
        assert await asyncio.wait_for(embedded.died(), 20) == -signal.SIGKILL
        await embedded.stop()
        await embedded.stop()

    run(scenario())


def test_stop_ends_it() -> None:
    async def scenario() -> None:
        embedded = await EmbeddedBroker.start(port=0)
        # A client that stays connected must not hold it up.
        with socket.create_connection((embedded.address.host, embedded.address.port)):
            await embedded.stop()
        assert await embedded.died() == 0
        assert not psutil.pid_exists(embedded.pid)
        assert not accepts("127.0.0.1", embedded.address.port)

    run(scenario())


def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import asyncio\n"
        "from broker_bridge.embedded import EmbeddedBroker\n"
        "async def main():\n"
        "    embedded = await EmbeddedBroker.start(port=0)\n"
        "    print(embedded.pid, embedded.address.port, flush=True)\n"
        "    await embedded.died()\n"
        "asyncio.run(main())\n"
    )
    root = Path(broker_bridge.__file__).parents[1]
    # A module in the working directory must not get between the broker and Python's own.
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')")
    with subprocess.Popen(
        [sys.executable, "-P", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as parent:
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        assert accepts("127.0.0.1", port)
        parent.kill()
        wait_until(lambda: ended(pid))
        wait_until(lambda: not accepts("127.0.0.1", port))


def test_another_amqtt_is_refused_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "WRITTEN_FOR", "0.0.1")
    with pytest.raises(RuntimeError, match=r"needs amqtt 0\.0\.1; amqtt 0\.12\.1 is installed"):
        broker.AwsTopicsBroker({})
