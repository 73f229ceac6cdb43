"""A TCP relay between devices and a broker that does to their MQTT what a link does.

    async with Relay("127.0.0.1", 1883, profiles.find("nb-iot"), seed=7) as relay:
        ...  # devices connect to relay.port

Plain TCP only: inside TLS no packet can be told from another. Devices with TLS are tried against the broker
itself, or speak plain MQTT to the relay.
"""

import asyncio
import dataclasses
import logging
import math
import signal
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from firmware_sim.links.framing import FramingError, droppable, protocol_level
from firmware_sim.links.line import Line
from firmware_sim.links.model import Direction, Link, LinkProfile, Seed

CONNECT_SECONDS = 10.0
"""For the broker to accept a connection."""
LARGEST_PACKET = 1 << 20
"""Bytes: several times what a block of 128 KiB takes in JSON."""
CONNECTIONS = 10_000
"""Relayed at once; one more is closed as soon as it is made."""
SOCKET_BUFFER = 16 * 1024
SEGMENT = 1460
"""Bytes: what the kernel may receive ahead of us, and a segment as on Ethernet. From the segments of 64 KiB
that loopback has, the sender's kernel gathers that it should buffer megabytes: minutes of a slow link."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WayCounts:
    """Packets taken from the sender, those that were lost too, and what became of those at QoS 0."""

    messages: int = 0
    bytes: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    """Held back, whether or not another was there to overtake."""

    def plus(self, direction: Direction) -> "WayCounts":
        """With those of one more connection."""
        own = ((one.name, getattr(self, one.name)) for one in dataclasses.fields(self))
        return WayCounts(**{name: value + getattr(direction, name) for name, value in own})


@dataclass(frozen=True, slots=True)
class RelayCounts:
    """What a relay has done so far."""

    connections: int = 0
    """Relayed to the broker, those that are still open too."""
    open: int = 0
    refused: int = 0
    """Closed at once: the broker could not be reached, or CONNECTIONS were open."""
    cuts: int = 0
    """Connections cut, by the profile or by command."""
    malformed: int = 0
    """Connections ended since they were not MQTT, or a packet was too long."""
    up: WayCounts = field(default_factory=WayCounts)
    down: WayCounts = field(default_factory=WayCounts)


class Relay:
    """Relays from `host`:`port` (0: a free port) to a broker, each connection over a link of its own.

    What is left to chance follows from `seed` and the number of the connection, counted from 0 as they are
    accepted. `largest_packet` in bytes, 2 to 268,435,460; a longer one ends its connection.
    """

    def __init__(
        self,
        broker_host: str,
        broker_port: int,
        profile: LinkProfile,
        *,
        seed: Seed = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        largest_packet: int = LARGEST_PACKET,
    ) -> None:
        self._broker = (broker_host, broker_port)
        self._profile = profile
        self._seed = seed
        self._address = (host, port)
        self._largest = largest_packet
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted = 0
        self._counts = RelayCounts()  # of what is over

    async def __aenter__(self) -> Self:
        """Listens. OSError where the port is taken."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._listener = socket.create_server(self._address, family=family, backlog=1024)
        _prepare(self._listener)  # what is accepted takes after it
        self.port: int = self._listener.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = {self._accepting, *self._tasks}
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        self._listener.close()

    def cut(self) -> int:
        """Resets every connection; what is under way is lost. How many there were."""
        connections = list(self._open)
        for connection in connections:
            connection.cut()
        return len(connections)

    def counts(self) -> RelayCounts:
        """What was done so far, on open connections too."""
        total = dataclasses.replace(self._counts, open=len(self._open))
        for connection in self._open:
            total = _with(total, connection.link)
        return total

    def _add(self, **more: int) -> None:
        sums = {name: getattr(self._counts, name) + count for name, count in more.items()}
        self._counts = dataclasses.replace(self._counts, **sums)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                device, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # no more file descriptors: others will be closed
                _log.warning("no connection can be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            number = self._accepted
            self._accepted += 1
            if len(self._tasks) == CONNECTIONS:
                device.close()
                self._add(refused=1)
                continue
            task = asyncio.create_task(self._relay(device, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, device: socket.socket, number: int) -> None:
        loop = asyncio.get_running_loop()
        with device:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    broker = await _connect(*self._broker)
            except OSError as error:  # TimeoutError is one
                why = error or f"no answer in {CONNECT_SECONDS:g} s"
                _log.warning("the broker at %s:%d cannot be reached: %s", *self._broker, why)
                self._add(refused=1)
                return
            with broker:
                link = Link(self._profile, self._seed, number, loop.time())
                connection = _Connection(link, device, broker, self._largest)
                ending = None if link.ends == math.inf else loop.call_at(link.ends, connection.cut)
                self._open.add(connection)
                self._add(connections=1)
                try:
                    await connection.run()
                except FramingError as error:
                    _log.warning("connection %d ended: %s", number, error)
                    self._add(malformed=1)
                finally:
                    if ending is not None:
                        ending.cancel()
                    self._open.discard(connection)
                    self._counts = _with(self._counts, link)
                    self._add(cuts=int(connection.was_cut))


def _with(counts: RelayCounts, link: Link) -> RelayCounts:
    return dataclasses.replace(counts, up=counts.up.plus(link.up), down=counts.down.plus(link.down))


async def _connect(host: str, port: int) -> socket.socket:
    """Connected, and not blocking. OSError of the last address that was tried."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        found = socket.socket(family, kind, protocol)
        try:
            _prepare(found)
            await loop.sock_connect(found, address)
        except BaseException as error:
            found.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return found
    raise failure


def _prepare(before: socket.socket) -> None:
    """Sets what has to be set before a connection is made."""
    before.setblocking(False)
    before.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    before.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    before.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)


class _Connection:
    """A device's connection and the one to the broker that was made for it."""

    def __init__(self, link: Link, device: socket.socket, broker: socket.socket, largest: int) -> None:
        self.link = link
        self.was_cut = False
        self._level: int | None = None  # of the protocol, once CONNECT was there
        self._ends = (device, broker)
        queue = link.profile.queue
        self._lines = (
            Line(device, broker, link.up, queue, largest, self._droppable_up),
            Line(broker, device, link.down, queue, largest, self._droppable),
        )
        self._running: set[asyncio.Task[bool]] = set()

    async def run(self) -> None:
        """Until one of the two has closed and what it sent before has arrived. Raises FramingError."""
        self._running = {asyncio.create_task(line.run()) for line in self._lines}
        pending, finished = self._running, False
        try:
            while pending and not finished:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                # Where the receiver of one way is gone, the other way is told so too, by what it reads, and
                # has yet to deliver what was sent before.
                outcomes = [] if self.was_cut else [task.result() for task in done]
                finished = self.was_cut or True in outcomes
        finally:
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)

    def cut(self) -> None:
        """Resets both: nothing that is under way arrives."""
        self.was_cut = True
        for end in self._ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for task in self._running:
            task.cancel()

    def _droppable_up(self, packet: bytes) -> bool:
        if self._level is None:
            self._level = protocol_level(packet)
        return self._droppable(packet)

    def _droppable(self, packet: bytes) -> bool:
        return droppable(packet, self._level or 0)


def serve(
    broker_host: str,
    broker_port: int,
    profile: LinkProfile,
    *,
    seed: Seed = 0,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[int], None] = lambda _port: None,
) -> RelayCounts:
    """Relays until SIGINT or SIGTERM, for the command line; `ready` is told the port. What was done.

    In the main thread. OSError where the port is taken.
    """

    async def relaying() -> RelayCounts:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Relay(broker_host, broker_port, profile, seed=seed, host=host, port=port) as relay:
            ready(relay.port)
            await stop.wait()
        return relay.counts()

    return asyncio.run(relaying())


class RelayThread:
    """A relay in a thread of its own, for the time of a `with`, for callers that are not asynchronous."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        """Raises what the relay raises when it begins to listen."""
        self._thread.start()
        self._loop = self._started.result()
        self.port = self._relay.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def cut(self) -> int:
        """As Relay.cut."""
        return self._in_loop(self._relay.cut)

    def counts(self) -> RelayCounts:
        """As Relay.counts; after the `with`, too."""
        return self._in_loop(self._relay.counts) if self._thread.is_alive() else self._relay.counts()

    def _in_loop(self, call: Callable[[], T]) -> T:
        async def calling() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(calling(), self._loop).result()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            await self._relay.__aenter__()
        except OSError as error:
            self._started.set_exception(error)
            return
        self._started.set_result(asyncio.get_running_loop())
        try:
            await self._stop.wait()
        finally:
            await self._relay.__aexit__(None, None, None)
