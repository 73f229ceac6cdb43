"""Which ranges stay in memory: at most so many bytes, and longer what is wanted more than once.

Two queues. What comes in goes to the end of `new`; room is made at its front, so that one pass over a big
file pushes out only what came in with it. What was wanted again by the time it reaches the front moves to
`proven`, which may hold three quarters of the bytes; from the front of that, what was wanted again since
goes round once more and the rest back to the end of `new`. A use costs setting one flag.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

from broker_bridge.storage.objects import Bytes


class Kept:
    """Bytes on a shelf. Whoever uses them again sets `again`."""

    __slots__ = ("again", "data")

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self.again = False


K = TypeVar("K", bound=Kept)


class Shelf(Generic[K]):
    """At most `capacity` bytes; `bytes` are there now."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.bytes = 0
        self._proven_bytes = 0
        self._proven_capacity = capacity * 3 // 4
        self._new: OrderedDict[K, None] = OrderedDict()
        self._proven: OrderedDict[K, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._new) + len(self._proven)

    def add(self, kept: K) -> list[K]:
        """Puts it there and returns what had to go. Its bytes are no more than `capacity`."""
        gone = []
        while self.bytes + len(kept.data) > self.capacity:
            gone.append(self._evict())
        self._new[kept] = None
        self.bytes += len(kept.data)
        return gone

    def discard(self, kept: K) -> None:
        """Takes it away."""
        if kept in self._proven:
            del self._proven[kept]
            self._proven_bytes -= len(kept.data)
        else:
            del self._new[kept]
        self.bytes -= len(kept.data)

    def _evict(self) -> K:
        # Ends: each turn clears a flag, and what is moved without one is evicted when it comes to the front.
        while True:
            if not self._new:
                self._demote()
            kept, _ = self._new.popitem(last=False)
            if not kept.again:
                self.bytes -= len(kept.data)
                return kept
            kept.again = False
            self._proven[kept] = None
            self._proven_bytes += len(kept.data)
            while self._proven_bytes > self._proven_capacity:
                self._demote()

    def _demote(self) -> None:
        while True:
            kept, _ = self._proven.popitem(last=False)
            if not kept.again:
                self._proven_bytes -= len(kept.data)
                self._new[kept] = None
                return
            kept.again = False
            self._proven[kept] = None
