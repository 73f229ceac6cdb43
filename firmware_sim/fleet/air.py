"""A link's model on one connection of a device, without I/O: what is under way, and when it arrives."""

import heapq
import math

from firmware_sim.links.framing import Framer, droppable
from firmware_sim.links.model import Direction, Link

LARGEST_PACKET = 1 << 20
MQTT_3_1_1 = 4


class Way:
    """One way: bytes in as the socket has them, whole packets out when the link has carried them.

    `full`: `queue` bytes or more are held; its owner feeds no more until they are less.
    """

    __slots__ = ("_count", "_direction", "_due", "_framer", "_held", "_queue")

    def __init__(self, direction: Direction, queue: int) -> None:
        self._direction = direction
        self._queue = queue
        self._framer = Framer(LARGEST_PACKET)
        # When, in which order among equals, how many bytes of the queue, and what; a lost packet has no
        # content, but stands in line until its turn on the wire is over.
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count = self._held = 0

    def feed(self, data: bytes, now: float) -> None:
        """What was read or is to be sent, in seconds of the clock. FramingError where it is no MQTT."""
        for packet in self._framer.feed(data):
            size = len(packet)
            arrivals = self._direction.send(now, size, droppable=droppable(packet, MQTT_3_1_1))
            if not arrivals:
                arrivals, packet = [self._direction.free], b""
            for at in arrivals:
                self._count += 1
                self._held += size
                heapq.heappush(self._due, (at, self._count, size, packet))

    def arrived(self, now: float) -> list[bytes]:
        """The packets whose time has come, in the order of their arrival."""
        found = []
        while self._due and self._due[0][0] <= now:
            _, _, size, packet = heapq.heappop(self._due)
            self._held -= size
            if packet:
                found.append(packet)
        return found

    @property
    def next(self) -> float:
        """When the next packet arrives; infinite where none is under way."""
        return self._due[0][0] if self._due else math.inf

    @property
    def full(self) -> bool:
        """Whether no more is to be fed."""
        return self._held >= self._queue


class Air:
    """Both ways of a connection over `link`."""

    __slots__ = ("down", "ends", "up")

    def __init__(self, link: Link) -> None:
        self.up = Way(link.up, link.profile.queue)
        self.down = Way(link.down, link.profile.queue)
        self.ends = link.ends
        """When the connection is cut, in seconds of the clock."""

    @property
    def next(self) -> float:
        """When something arrives or the connection is cut."""
        return min(self.up.next, self.down.next, self.ends)
