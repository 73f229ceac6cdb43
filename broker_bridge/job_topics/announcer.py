"""Tells things of their next execution (`notify-next`) and of their lists (`notify`), from the outbox.

A notice stays in the outbox until the broker has acknowledged all its messages, so that neither a killed
service nor a lost connection lets one go. What was sent and not acknowledged is sent again, as it is then.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

import structlog

from broker_bridge.job_topics import messages, topics
from broker_bridge.job_topics.sending import Sender
from broker_bridge.jobs.showing import Render
from broker_bridge.registry.errors import RegistryUnavailable
from broker_bridge.registry.jobs.pending import Notice
from broker_bridge.registry.registry import Registry

log = structlog.get_logger("jobs")

MAX_PAGE = 25
"""Things read from the outbox at once, some 5 ms during which no request is handled; fewer where the rate
allows so few in PAGE_SECONDS."""
PAGE_SECONDS = 0.05
RETRY_SECONDS = 1.0
"""Before an outbox that could not be read, or whose messages were lost, is tried again."""


class _Telling(NamedTuple):
    notice: Notice
    messages: list[tuple[str, bytes]]


class Announcer:
    """Empties the outbox, of at most `per_second` things in a second. Belongs to one event loop."""

    def __init__(
        self,
        registry: Registry,
        sender: Sender,
        *,
        clock: Callable[[], datetime],
        render: Render,
        per_second: int,
    ) -> None:
        self.told = 0
        """Things that were told something, each as often as it was."""
        self._registry = registry
        self._sender = sender
        self._clock = clock
        self._render = render
        self._per_second = per_second
        self._page = min(MAX_PAGE, max(1, int(per_second * PAGE_SECONDS)))
        self._woken = asyncio.Event()
        self._connected = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, "job notices")

    def wake(self) -> None:
        """There may be something to tell."""
        self._woken.set()

    def connected(self, stands: bool) -> None:
        """There is a connection to the broker, or there is none."""
        if stands:
            self._connected.set()
            self._woken.set()
        else:
            self._connected.clear()

    async def run(self) -> None:
        """Tells what there is to tell until it is cancelled."""
        while True:
            await self._woken.wait()
            await self._connected.wait()
            # What changes from here on may be missed by this pass, and makes another one.
            self._woken.clear()
            try:
                emptied = await self._pass()
            except RegistryUnavailable as error:
                log.error("the registry fails: things are told later", error=str(error))
                emptied = False
            except Exception:
                log.exception("things could not be told")
                emptied = False
            if not emptied:
                self._woken.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """After `run`: waits for what it was doing in its thread."""
        await asyncio.get_running_loop().run_in_executor(None, self._reader.shutdown)

    async def _pass(self) -> bool:
        """Goes through the outbox once, by name; False where something was lost."""
        loop = asyncio.get_running_loop()
        after = ""
        while True:
            began = loop.time()
            page = await loop.run_in_executor(self._reader, self._read, after)
            told = await self._tell(page)
            if told:
                await loop.run_in_executor(
                    self._reader, self._registry.job_steps.announced, told, self._clock()
                )
                self.told += len(told)
            if len(told) < len(page):
                return False
            await asyncio.sleep(max(0.0, began + len(page) / self._per_second - loop.time()))
            if len(page) < self._page:
                return True
            after = page[-1].notice.thing

    def _read(self, after: str) -> list[_Telling]:
        """What the next things are to be told."""
        now = self._clock()
        page = []
        for found in self._registry.device_jobs.announcements(after, self._page):
            thing, telling = found.notice.thing, list[tuple[str, bytes]]()
            if found.notice.next_changes:
                next_one = messages.notify_next(found.next, now, self._render)
                telling.append((topics.notify_next(thing), next_one))
            if found.notice.list_changes:
                telling.append((topics.notify(thing), messages.notify(found.pending, now)))
            page.append(_Telling(found.notice, telling))
        return page

    async def _tell(self, page: list[_Telling]) -> list[Notice]:
        """Those of the page that were told all that they were to be told."""
        sent = [
            (telling.notice, [await self._sender.send(*message) for message in telling.messages])
            for telling in page
        ]
        return [notice for notice, arrivals in sent if all(await asyncio.gather(*arrivals))]
