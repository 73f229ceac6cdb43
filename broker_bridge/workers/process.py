"""The supervisor's side of one worker process."""

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from broker_bridge import children
from broker_bridge.counting import Counts
from broker_bridge.workers.wire import MAX_LINE, line
from broker_bridge.workers.worker import DRAIN_SECONDS

log = structlog.get_logger("workers")

PING_SECONDS = 1.0
UNANSWERED = 5
"""Questions in a row without a word from it, and the worker counts as hung and is killed."""
UNANSWERED_AT_START = 60
"""The same before its first word: it imports, and opens the registry."""
MAX_UNREAD = 1024 * 1024
"""Bytes that a worker may leave unread; then it counts as hung too."""
ANSWER_SECONDS = 1.0
"""How long `counts` waits."""


class WorkerProcess:
    """A running worker process. It is asked once a second for its counts, and killed if it hangs."""

    def __init__(self, process: Process) -> None:
        """For `start`."""
        self.counts: Counts = {}
        """The last it gave."""
        self.state = "starting"
        """Why it does not answer devices, or `connected`."""
        self._process = process
        self._here = False
        self._unanswered = 0
        self._number = 0
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._closing = False

    @classmethod
    async def start(cls, first: Mapping[str, Any]) -> "WorkerProcess":
        """Starts one, and says `first` to it. OSError."""
        worker = cls(await children.start("broker_bridge.workers", limit=MAX_LINE))
        worker.send(first)
        return worker

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Says something to it. Never waits."""
        pipe = self._process.stdin
        assert pipe is not None
        if pipe.is_closing():
            return
        pipe.write(line(message))
        if pipe.transport.get_write_buffer_size() > MAX_UNREAD:
            self.kill()

    async def run(self, heard: Callable[[dict[str, Any]], None]) -> int:
        """Hands what it says to `heard` until it has ended; its exit status (below 0: a signal)."""
        pinging = asyncio.ensure_future(self._ping())
        try:
            await self._read(heard)
        except Exception:
            log.exception("a worker is not understood", pid=self.pid)
            self.kill()
        try:
            # Only then can it answer no device any more.
            return await self._process.wait()
        finally:
            pinging.cancel()
            self._answered(*self._asked)

    async def fresh_counts(self) -> Counts:
        """Its counts as they are now; after ANSWER_SECONDS, as they were last."""
        answer = self._ask()
        await asyncio.wait([answer], timeout=ANSWER_SECONDS)
        return self.counts

    def kill(self) -> None:
        """Ends it at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """Lets it finish what it has in hand, and end. `run` returns as well."""
        self._closing = True
        # Longer than its draining may take: it has to leave the broker and to end its threads as well.
        await children.end(self._process, DRAIN_SECONDS + 5)

    async def _read(self, heard: Callable[[dict[str, Any]], None]) -> None:
        assert self._process.stdout is not None
        while received := await self._process.stdout.readline():
            message = json.loads(received)
            self._here = True
            self._unanswered = 0
            if message["say"] == "counts":
                self.counts = message["counts"]
                self.state = message["broker"]
                self._answered(message["number"])
            else:
                heard(message)

    async def _ping(self) -> None:
        while not self._closing:
            # Questions are counted, not time: where we ourselves stood still, its answers wait to be read.
            if self._unanswered >= (UNANSWERED if self._here else UNANSWERED_AT_START):
                log.error("a worker hangs and is killed", pid=self.pid)
                self.kill()
                return
            self._unanswered += 1
            self._ask()
            await asyncio.sleep(PING_SECONDS)

    def _ask(self) -> "asyncio.Future[None]":
        self._number += 1
        answer = self._asked[self._number] = asyncio.get_running_loop().create_future()
        self.send({"do": "count", "number": self._number})
        return answer

    def _answered(self, *numbers: int) -> None:
        for number in numbers:
            answer = self._asked.pop(number, None)
            if answer is not None and not answer.done():
                answer.set_result(None)
