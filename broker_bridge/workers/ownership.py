"""Which worker answers which thing: rendezvous hashing, without I/O.

Each worker that knows the same set of workers comes to the same answer by itself, and a thing moves only when
its own worker goes, or to one that is new (Thaler and Ravishankar, "A Name-Based Mapping Scheme for
Rendezvous", 1996).
"""

from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b

MAX_REMEMBERED = 65536
"""Things whose answer is remembered; the least recently heard goes first."""
LONGEST_REMEMBERED = 128
"""Characters of a thing's name (PROTOCOL "Topics"); what is longer is none, and is worked out each time."""


def owner(thing: str, workers: Collection[int]) -> int | None:
    """The worker, of those alive, that answers `thing`; None if there is none. The same in every process."""
    name = thing.encode(errors="surrogatepass")
    return max(workers, key=lambda worker: (_weight(name, worker), worker), default=None)


def _weight(name: bytes, worker: int) -> bytes:
    return blake2b(name, digest_size=8, salt=worker.to_bytes(4, "big")).digest()


class Ownership:
    """What worker `me` answers as long as `workers` are those that may answer. To begin with, nothing."""

    def __init__(self, me: int) -> None:
        self._me = me
        self._workers: frozenset[int] = frozenset()
        self._remembered = lru_cache(MAX_REMEMBERED)(self._decide)

    @property
    def workers(self) -> frozenset[int]:
        """Those that may answer things. Where `me` is not among them, it answers none."""
        return self._workers

    @workers.setter
    def workers(self, workers: frozenset[int]) -> None:
        if workers != self._workers:
            self._workers = workers
            self._remembered.cache_clear()

    def mine(self, thing: str) -> bool:
        """Whether it is for `me` to answer `thing`. Asked for each message that any worker hears."""
        return self._remembered(thing) if len(thing) <= LONGEST_REMEMBERED else self._decide(thing)

    def _decide(self, thing: str) -> bool:
        return self._me in self._workers and owner(thing, self._workers) == self._me
