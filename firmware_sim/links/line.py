"""One way of a relayed connection: reads packets, holds each for as long as the link takes, writes them."""

import asyncio
import heapq
import socket
from collections.abc import Callable
from contextlib import suppress

from firmware_sim.links.framing import Framer, FramingError
from firmware_sim.links.model import Direction

READ = 16 * 1024
"""Bytes read at once."""


class Line:
    """Carries packets from one socket through `direction` to another; both do not block.

    Holds `queue` bytes at most, or one packet where that is longer, beside READ bytes and the packet that is
    being read; then no more is read, and TCP makes the sender wait. `droppable` is asked for every packet,
    in order, and may raise FramingError.
    """

    def __init__(
        self,
        source: socket.socket,
        target: socket.socket,
        direction: Direction,
        queue: int,
        largest: int,
        droppable: Callable[[bytes], bool],
    ) -> None:
        self._source = source
        self._target = target
        self._direction = direction
        self._queue = queue
        self._framer = Framer(largest)
        self._droppable = droppable
        # When, in which order among equals, how many bytes of the queue, and what; a lost message has no
        # content, but stands in line until its turn on the wire is over.
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._held = 0  # bytes
        self._changed = asyncio.Event()  # another packet is the next one, or there will be no more
        self._room = asyncio.Event()
        self._ended = False
        self._failure: FramingError | None = None

    async def run(self) -> bool:
        """Until the sender has closed and all it sent is delivered: True. False: the receiver is gone.

        Raises FramingError when what was before it is delivered.
        """
        reading = asyncio.create_task(self._read())
        try:
            await self._deliver()
        except OSError:
            return False
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        return True

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            with suppress(OSError):  # a reset ends it as well
                while data := await loop.sock_recv(self._source, READ):
                    for packet in self._framer.feed(data):
                        await self._send(packet)
        except FramingError as error:
            self._failure = error
        finally:
            self._ended = True
            self._changed.set()

    async def _send(self, packet: bytes) -> None:
        droppable = self._droppable(packet)
        size = len(packet)
        while self._held and self._held + size > self._queue:
            self._room.clear()
            await self._room.wait()
        now = asyncio.get_running_loop().time()
        arrivals = self._direction.send(now, size, droppable=droppable)
        if not arrivals:
            arrivals, packet = [self._direction.free], b""
        for at in arrivals:
            self._count += 1
            self._held += size
            heapq.heappush(self._due, (at, self._count, size, packet))
            if self._due[0][1] == self._count:
                self._changed.set()

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due or not self._ended:
            self._changed.clear()
            if not self._due:
                await self._changed.wait()
                continue
            now = loop.time()
            if self._due[0][0] > now:
                timer = loop.call_at(self._due[0][0], self._changed.set)
                try:
                    await self._changed.wait()
                finally:
                    timer.cancel()
                continue
            packets, freed = [], 0
            while self._due and self._due[0][0] <= now:
                _, _, size, packet = heapq.heappop(self._due)
                packets.append(packet)
                freed += size
            await loop.sock_sendall(self._target, b"".join(packets))
            self._held -= freed
            self._room.set()
        if self._failure is not None:
            raise self._failure
