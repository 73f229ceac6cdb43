"""Who of the workers may answer, as the supervisor decides it. No I/O: events in, what is to be told out.

The rule that keeps a thing from being answered by two: **of any two workers that answer anything, each knows
of the other.** Both then give the thing to the same one of them (`ownership.owner`). So

- one that goes (its process has ended, or it has said that its connection is lost, and answers nothing from
  then on) is simply left out: the rest learn it whenever they learn it, and only ever gain by it;
- one that comes is told to begin only when all that answer have acknowledged that they know of it, and have
  let go of what is now its own.

Every event that changes something makes a new epoch; acknowledgements of older ones count for nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tell:
    """`worker` is to be told: as long as your connection is the `session`-th, `workers` answer things."""

    worker: int
    session: int
    epoch: int
    workers: frozenset[int]


class Membership:
    """The supervisor's view of its workers."""

    def __init__(self) -> None:
        self._epoch = 0
        self._sessions: dict[int, int] = {}
        self._answering: set[int] = set()
        self._joining: set[int] = set()
        self._unacknowledged: set[int] = set()

    @property
    def answering(self) -> frozenset[int]:
        """Those that were told to answer."""
        return frozenset(self._answering)

    def connected(self, worker: int, session: int) -> list[Tell]:
        """`worker` hears requests, over its `session`-th connection, and answers none yet."""
        self._remove(worker)
        self._sessions[worker] = session
        self._joining.add(worker)
        return self._change()

    def gone(self, worker: int) -> list[Tell]:
        """`worker` answers nothing any more: its connection is lost, or its process has ended for certain."""
        if worker not in self._sessions:
            return []
        self._remove(worker)
        return self._change()

    def let_go(self, worker: int, epoch: int) -> list[Tell]:
        """`worker` goes by what it was told in `epoch`: what is not its own by that it has dropped."""
        if epoch == self._epoch:
            self._unacknowledged.discard(worker)
        return self._admit()

    def _remove(self, worker: int) -> None:
        self._sessions.pop(worker, None)
        for group in (self._answering, self._joining, self._unacknowledged):
            group.discard(worker)

    def _change(self) -> list[Tell]:
        self._epoch += 1
        self._unacknowledged = set(self._answering)
        return self._tell(self._answering) + self._admit()

    def _admit(self) -> list[Tell]:
        """Lets in those who wait, once all that answer know of them."""
        if self._unacknowledged or not self._joining:
            return []
        joining = self._joining
        self._answering |= joining
        self._joining = set()
        return self._tell(joining)

    def _tell(self, workers: set[int]) -> list[Tell]:
        everybody = frozenset(self._answering | self._joining)
        return [Tell(worker, self._sessions[worker], self._epoch, everybody) for worker in sorted(workers)]
