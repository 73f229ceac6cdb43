"""A worker's side of the membership: between the supervisor's word, the connection and delivery.

Letting go is done at once. Taking waits for a message that goes through the broker and back: what was heard
before it reached the broker before whoever answered until now let go or ended, and may have been answered by
that one; what is heard after it was not.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import structlog

from broker_bridge.delivery.answers import Publisher
from broker_bridge.mqtt.turn import Handler, Turn
from broker_bridge.probe import PROBE_THING
from broker_bridge.workers.ownership import Ownership
from chunker import topics

log = structlog.get_logger("worker")

RETURN_SECONDS = 1.5
"""How long the message may take; a broker that does not bring it back (its access rules, an overfull queue)
must not keep things from being taken over within two seconds. Then they are taken all the same."""

_STREAM = "worker-"
_PREFIX = f"$aws/things/{PROBE_THING}/streams/{_STREAM}"


class Work(Handler, Protocol):
    """Delivery, as a member uses it."""

    def let_go(self) -> None:
        """Drops whatever waits for things that are no longer ours."""


class Timer(Protocol):
    """asyncio's TimerHandle."""

    def cancel(self) -> None:
        """It is not to fire."""


class Member:
    """A `Handler` before delivery's. Without I/O of its own."""

    def __init__(
        self,
        worker: int,
        say: Callable[[dict[str, Any]], None],
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        """`say` tells the supervisor; `later` is the event loop's `call_later`."""
        self._say = say
        self._later = later
        self._ownership = Ownership(worker)
        self.mine = self._ownership.mine
        self._session = 0
        self._stands = False
        self._target: frozenset[int] = frozenset()
        self._awaited: str | None = None
        self._timer: Timer | None = None

    def attach(self, work: Work, publisher: Publisher) -> None:
        """What is behind it and what is before it; before anything else is called."""
        self._work = work
        self._publisher = publisher
        self.next_turn: Callable[[int], Turn | None] = work.next_turn

    # The connection's calls

    def connected(self) -> None:
        """Requests can be heard. They are answered when the supervisor says so."""
        self._session += 1
        self._stands = True
        self._work.connected()
        self._say({"say": "connected", "session": self._session})

    def disconnected(self) -> None:
        """Nothing is ours any more, until the supervisor lets us in again."""
        self._stands = False
        self.leave()
        self._work.disconnected()
        self._say({"say": "disconnected", "session": self._session})

    def received(self, topic: str, payload: bytes, size: int) -> None:
        """A request, or somebody's message to himself."""
        if not topic.startswith(_PREFIX):
            self._work.received(topic, payload, size)
        elif topic == self._awaited:
            self._take()

    # The supervisor's

    def answer(self, epoch: int, session: int, workers: Iterable[int]) -> None:
        """From now on `workers` answer; not if the supervisor does not know yet that the connection broke."""
        if self._stands and session == self._session:
            self._go_by(frozenset(workers))
        self._say({"say": "let go", "epoch": epoch})

    def leave(self) -> None:
        """Nothing is ours any more. What waits to be written stays."""
        self._stop_waiting()
        self._ownership.workers = frozenset()

    def _go_by(self, workers: frozenset[int]) -> None:
        until_now = self._ownership.workers
        self._target = workers
        if until_now:
            # Those that went stay in for a moment: what was theirs is nobody's until it is taken.
            self._ownership.workers = until_now | workers
            self._work.let_go()
        if until_now and until_now <= workers:
            self._stop_waiting()
        else:
            self._wait()

    def _wait(self) -> None:
        self._stop_waiting()
        stream = _STREAM + secrets.token_hex(8)
        self._awaited = topics.topic(PROBE_THING, stream, "describe", topics.JSON)
        self._publisher.publish(self._awaited, b"{}")
        self._timer = self._later(RETURN_SECONDS, self._waited_in_vain)

    def _stop_waiting(self) -> None:
        self._awaited = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _waited_in_vain(self) -> None:
        log.warning("the broker did not bring our own message back; taking over without it")
        self._take()

    def _take(self) -> None:
        self._stop_waiting()
        self._ownership.workers = self._target
        self._say({"say": "answering", "session": self._session})
