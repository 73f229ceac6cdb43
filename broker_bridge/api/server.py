"""The HTTP server under the API: uvicorn on a socket that is bound before anything else is begun."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal

import uvicorn

from broker_bridge.api.connection import Connection

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application."""
Lifespan = Literal["on", "off"]
"""Whether the application is told of the server's start and end."""

KEEP_ALIVE_SECONDS = 30
MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers. AWS's clients stay under 4 KiB, with long session tokens."""
SEND_BUFFER = 128 * 1024
"""Bytes that the kernel holds for one client (on Linux with its own book-keeping: it doubles them)."""
SHUTDOWN_SECONDS = 10
"""What requests have to finish when the service ends."""


class AddressTaken(Exception):
    """Somebody else listens at the API's address, or it is not this machine's."""


@contextmanager
def listen(host: str, port: int, setting: str = "http") -> Iterator[socket.socket]:
    """A listening socket; port 0 takes a free one. AddressTaken, which names the setting."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise AddressTaken(f"{setting}: cannot listen on {host}:{port}: {error.strerror or error}") from error
    # Inherited by connections. The kernel asks for more when a third of it is free, and grows it to megabytes
    # unless told: minutes for a slow client, which would look as if it had stalled.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    with listener:
        yield listener


@asynccontextmanager
async def serving(app: Asgi, listener: socket.socket, *, lifespan: Lifespan = "on") -> AsyncIterator[str]:
    """Answers on `listener` for the time of the context; gives the URL."""
    host, port = listener.getsockname()[:2]
    server = _Server(config(app, host, port, lifespan=lifespan))
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        yield url(listener)
    finally:
        server.stop()
        await running


def url(listener: socket.socket) -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def config(app: Asgi, host: str, port: int, *, lifespan: Lifespan = "on") -> uvicorn.Config:
    """The settings for `uvicorn.Server`. h11 and no WebSockets, whatever else is installed beside us."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        lifespan=lifespan,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )


class _Server(uvicorn.Server):
    """uvicorn, ended by a call and idle in between."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends `serve`, after the requests under way."""
        self.should_exit = True
        self._stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's."""
        yield

    async def main_loop(self) -> None:
        """Keeps the Date header true. uvicorn's own looks ten times a second: 0.08 s of CPU a minute."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1)
