"""Where requests wait and are handled: one thread takes all that wait, in one transaction.

The device of a request is answered when what it asked for is on the disk. One commit, with its sync of the
disk, serves all requests that came in meanwhile, so that reports may be as durable as what operators do, and
no setting need weaken that: the more there is to do, the less a request costs.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from broker_bridge.job_topics.errors import Code, Refusal, refusal
from broker_bridge.job_topics.requests import Request
from broker_bridge.job_topics.topics import Verb
from broker_bridge.jobs.errors import JobError
from broker_bridge.registry.errors import RegistryUnavailable
from broker_bridge.registry.jobs.devices import DeviceJobs, Requests, Work
from broker_bridge.registry.jobs.pending import Pending

log = structlog.get_logger("jobs")

MAX_WAITING = 4000
"""Requests that wait, of all things: two seconds' work."""
MAX_WAITING_OF_THING = 16
"""Of one thing, so that one that asks without end delays no other for long."""
BATCH = 64
"""Requests handled in one transaction: some 15 ms, for which a request that comes then has to wait."""

GATHER_SECONDS = 0.0015
"""How long, after a transaction for several, others may join the next: what each costs however few it serves
would else be most of what there is to do. Not where they ask one at a time, nor where more wait already."""

Outcome = Pending | Work | None | Refusal
"""What came of a request; None: nothing is pending."""
Answered = Callable[[Sequence[tuple[Request, Outcome]], datetime], None]
"""Called from the desk's thread with requests, what came of them, and when that was."""


class Desk:
    """Handles requests, in a thread of its own, from `start` to `close`."""

    def __init__(self, jobs: DeviceJobs, clock: Callable[[], datetime], answered: Answered) -> None:
        self._jobs = jobs
        self._clock = clock
        self._answered = answered
        self._waiting: deque[Request] = deque()
        self._of_thing: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="job requests", daemon=True)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def take(self, asked: Request) -> None:
        """Has it handled. Refusal (RequestThrottled) where too many wait."""
        thing = asked.address.thing
        with self._changed:
            if len(self._waiting) >= MAX_WAITING or self._of_thing[thing] >= MAX_WAITING_OF_THING:
                raise Refusal(Code.REQUEST_THROTTLED, "too many requests wait: try again later", asked.token)
            self._waiting.append(asked)
            self._of_thing[thing] += 1
            self._changed.notify()

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Handles what waits, and ends. It blocks for as long as that takes."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            now = self._clock()
            self._answered(self._handle_all(batch, now), now)
            if 1 < len(batch) < BATCH:
                time.sleep(GATHER_SECONDS)

    def _next(self) -> list[Request]:
        """What is to be handled together, in the order in which it came; nothing: the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            for asked in batch:
                self._of_thing[asked.address.thing] -= 1
                if not self._of_thing[asked.address.thing]:
                    del self._of_thing[asked.address.thing]
            return batch

    def _handle_all(self, batch: Sequence[Request], now: datetime) -> list[tuple[Request, Outcome]]:
        try:
            about = [(asked.address.thing, asked.address.job_id) for asked in batch]
            with self._jobs.together(now, about) as requests:
                return [(asked, _handle(asked, requests)) for asked in batch]
        except RegistryUnavailable as error:
            log.error("the registry fails: requests of devices are refused", error=str(error))
        except Exception:
            if len(batch) > 1:
                # All of it was undone. Alone, it fails only those whom it concerns.
                return [answer for asked in batch for answer in self._handle_all([asked], now)]
            log.exception("a request could not be handled", topic=batch[0].address.topic)
        return [
            (asked, Refusal(Code.INTERNAL_ERROR, "the service failed: try again later", asked.token))
            for asked in batch
        ]


def _handle(asked: Request, requests: Requests) -> Outcome:
    thing, job_id = asked.address.thing, asked.address.job_id
    try:
        match asked.address.verb:
            case Verb.PENDING:
                return requests.pending(thing)
            case Verb.START_NEXT:
                return requests.start_next(thing, details=asked.details, step_minutes=asked.step_minutes)
            case Verb.DESCRIBE:
                with_document = asked.with_document is not False
                return requests.describe(thing, job_id, number=asked.number, with_document=with_document)
            case Verb.UPDATE:
                assert asked.status is not None
                return requests.update(
                    thing,
                    job_id,
                    asked.status,
                    details=asked.details,
                    expected_version=asked.expected_version,
                    number=asked.number,
                    step_minutes=asked.step_minutes,
                    with_document=asked.with_document is True,
                )
    except JobError as error:
        return refusal(error, asked.token)
