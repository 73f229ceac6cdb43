"""What tests of the connection need: a handler that remembers, and a broker that a test scripts."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.turn import Turn

GET = "$aws/things/+/streams/+/get/+"
DESCRIBE = "$aws/things/+/streams/+/describe/+"
SUBSCRIPTIONS = [(GET, 1), (DESCRIBE, 1)]
DATA = "$aws/things/t/streams/s/data/cbor"
REJECTED = "$aws/things/t/streams/s/rejected/json"


class Recorder:
    """A handler: remembers what it hears, hands out what the test put into `turns`."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.messages: list[tuple[str, bytes, int]] = []
        self.turns: deque[Turn] = deque()
        self.asked: list[int] = []

    def connected(self) -> None:
        self.events.append("connected")

    def disconnected(self) -> None:
        self.events.append("disconnected")

    def received(self, topic: str, payload: bytes, size: int) -> None:
        self.messages.append((topic, payload, size))

    def next_turn(self, max_messages: int) -> Turn | None:
        self.asked.append(max_messages)
        if not self.turns:
            return None
        turn = self.turns[0]
        if len(turn.heads) <= max_messages:
            return self.turns.popleft()
        self.turns[0] = Turn(turn.topic, turn.prefix, turn.heads[max_messages:], turn.bodies[max_messages:])
        return Turn(turn.topic, turn.prefix, turn.heads[:max_messages], turn.bodies[:max_messages])


async def until(condition: Callable[[], Any], what: str = "", timeout: float = 30.0) -> None:
    """Waits for `condition` on the running loop; AssertionError after `timeout` seconds."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def connected(
    url: str, handler: Recorder, *, ready: bool = True, **options: Any
) -> AsyncIterator[Connection]:
    """A running connection, by default one that is ready; closed at the end."""
    options = {"subscriptions": SUBSCRIPTIONS, "client_id": "sluice-test", "backoff": (0.01, 0.1)} | options
    connection = Connection(BrokerAddress.parse(url), handler, **options)
    running = asyncio.create_task(connection.run())
    try:
        if ready:
            await connection.wait_ready(30)
        yield connection
    finally:
        await connection.close(drain=0.2)
        await asyncio.wait_for(running, 30)


class Peer:
    """One client as a scripted broker sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def packet(self) -> tuple[int, bytes]:
        """The first byte and the body of the client's next packet."""
        first = (await self.reader.readexactly(1))[0]
        remaining = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            remaining |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, await self.reader.readexactly(remaining)

    async def expect(self, first: int) -> bytes:
        """The body of the client's next packet, which begins with `first`."""
        got, body = await self.packet()
        assert got == first, f"0x{got:02x} instead of 0x{first:02x}"
        return body

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def accept(self, connack: bytes = b"\x20\x03\x00\x00\x00") -> bytes:
        """CONNECT and SUBSCRIBE, both granted; returns CONNECT's body."""
        connect = await self.expect(0x10)
        self.send(connack)
        subscribe = await self.expect(0x82)
        v5 = connect[6] == 5
        self.send(bytes([0x90, 5 if v5 else 4]) + subscribe[:2] + (b"\x00" if v5 else b"") + b"\x01\x01")
        return connect


@asynccontextmanager
async def scripted_broker(script: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[str]:
    """A server on a real socket that runs `script` for each client; yields its URL, raises its failures."""
    failures: list[BaseException] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    try:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise failures[0]
