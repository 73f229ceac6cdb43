"""The engine at work: in a thread of its own, asleep until something is due or is said to be."""

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from broker_bridge.jobs.engine import Engine
from broker_bridge.registry.errors import RegistryUnavailable
from broker_bridge.registry.jobs.store import Jobs

log = structlog.get_logger("jobs")

LONGEST_WAIT = 60.0
"""Seconds after which the clock is read again: it may have been set."""
BACKOFF = (0.2, 30.0)
"""The shortest and the longest wait after the registry failed, seconds."""
MAX_CHANGED = 10_000
"""Things that wait for jobs to keep up with them; with more, jobs keep up with all things at once."""


class RunningEngine:
    """Runs an engine from `start` to `close`, and has jobs follow the things that change."""

    def __init__(self, engine: Engine, jobs: Jobs, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._jobs = jobs
        self._clock = clock
        self._changed = threading.Condition()
        self._due = clock()
        self._things: set[str] = set()
        self._all = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="job engine", daemon=True)

    def start(self) -> None:
        """Begins, with what was missed while no service ran."""
        self._thread.start()

    def wake(self, at: datetime) -> None:
        """Something is due at that time. From any thread."""
        with self._changed:
            if at < self._due:
                self._due = at
                self._changed.notify()

    def follow(self, thing: str | None) -> None:
        """The thing or its groups changed, or (None) those of many. From any thread."""
        with self._changed:
            if thing is None or len(self._things) >= MAX_CHANGED:
                self._all = True
                self._things.clear()
            else:
                self._things.add(thing)
            self._changed.notify()

    def close(self) -> None:
        """Ends it after the step at which it is."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        shortest, longest = BACKOFF
        pause, started = shortest, False
        while not self._closing.is_set():
            try:
                if not started:
                    self._engine.start(self._clock())
                    started = True
                self._once()
                pause = shortest
            except RegistryUnavailable as error:
                log.error("the registry fails: jobs stand still", error=str(error), retry_in=round(pause, 1))
                self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, longest)
            except Exception:
                # A fault of ours that is no single job's (those are set aside): not tried without a pause.
                log.exception("the engine failed")
                self._closing.wait(longest)

    def _once(self) -> None:
        """Waits for what is next, and does a bounded part of it."""
        with self._changed:
            while not (self._things or self._all or self._closing.is_set()):
                left = (self._due - self._clock()) / timedelta(seconds=1)
                if left <= 0:
                    break
                self._changed.wait(min(left, LONGEST_WAIT))
            if self._closing.is_set():
                return
            everything, self._all = self._all, False
            # Before they are looked at: what changes meanwhile may not be seen.
            thing = None if everything or not self._things else self._things.pop()
        if everything or thing is not None:
            try:
                self._jobs.follow(self._clock(), thing)
            except BaseException:
                self.follow(thing)
                raise
        now = self._clock()
        with self._changed:
            if self._due > now:
                return
            self._due = now + timedelta(days=1)
        due = now
        try:
            due = self._engine.run(now)
        finally:
            self.wake(due)
