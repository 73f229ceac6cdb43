"""One connection of a client over HTTP: uvicorn's, with an end to all waiting.

uvicorn waits for ever for the first request, for the rest of a head, and for a client that does not read its
answer. Here each of these waits has a bound, and so has the number of connections.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 900
"""Open at once on one listener; one more is closed unheard. A process has 1,024 files, unless told."""
HEAD_SECONDS = 30
"""From the first wait for a request to its head being complete."""
STALL_SECONDS = 300
"""For a client to take what waits for it, once that is over 64 KiB, down to 16 KiB: with what the kernel
holds beside it, some 200 KB. So who takes less than 1 KB a second is not waited for."""


class Connection(H11Protocol):
    """For `uvicorn.Config(http=…)`."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Asyncio's."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's."""
        super().connection_lost(exc)
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()

    def handle_events(self) -> None:
        """uvicorn's: what has arrived is looked at."""
        super().handle_events()
        self._watch_head()

    def pause_writing(self) -> None:
        """Asyncio's: 64 KiB wait to be sent."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Asyncio's: 16 KiB or less wait to be sent."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's: an idle connection is closed, and given a moment to take what was said last."""
        super().timeout_keep_alive_handler()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def _watch_head(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if not waiting and self._head is not None:
            self._head.cancel()
            self._head = None
        elif waiting and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
