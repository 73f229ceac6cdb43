"""`$aws/events/job/…` and `$aws/events/jobExecution/…`: what happened, for whoever watches a fleet.

They are told once, after the fact; those that a killed service had not told are lost (AWS's guide promises no
more, and ListJobExecutionsForJob says how things are).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime

from broker_bridge.job_topics import messages
from broker_bridge.job_topics.sending import Sender
from broker_bridge.jobs.events import ExecutionEvent, JobEvent
from broker_bridge.jobs.job import Target

MAX_WAITING = 10_000
"""Events that wait for the broker; further ones are dropped and counted."""
AT_ONCE = 100
"""Events sent before it is looked at which of them arrived."""
RETRY_SECONDS = 1.0


class Events:
    """Publishes events. Belongs to one event loop."""

    def __init__(
        self, sender: Sender, *, clock: Callable[[], datetime], arn: Callable[[str, str], str]
    ) -> None:
        """`arn`: that of a `thing` or a `thinggroup` of a name."""
        self.sent = 0
        self.dropped = 0
        self._sender = sender
        self._clock = clock
        self._arn = arn
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._woken = asyncio.Event()

    def add(self, event: JobEvent | ExecutionEvent) -> None:
        """Has it published."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        now = self._clock()
        if isinstance(event, JobEvent):
            kind, job_id = "job", event.job.job_id
            payload = messages.job_event(event, [self._of(target) for target in event.targets], now)
        else:
            kind, job_id = "jobExecution", event.execution.job_id
            payload = messages.execution_event(event, self._arn("thing", event.execution.thing), now)
        self._waiting.append((f"$aws/events/{kind}/{job_id}/{event.operation}", payload))
        self._woken.set()

    async def run(self) -> None:
        """Publishes what there is, in its order, until it is cancelled."""
        while True:
            await self._woken.wait()
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            if not some:
                self._woken.clear()
                continue
            arrivals = [await self._sender.send(*message) for message in some]
            lost = [message for message, arrival in zip(some, arrivals, strict=True) if not await arrival]
            self.sent += len(some) - len(lost)
            self._waiting.extendleft(reversed(lost))
            if lost:
                await asyncio.sleep(RETRY_SECONDS)

    def _of(self, target: Target) -> str:
        if target.thing is not None:
            return self._arn("thing", target.thing)
        return self._arn("thinggroup", target.group or "")
