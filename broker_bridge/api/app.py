"""The ASGI application: HTTP in and out, bounded; what it means is `dispatch`'s.

ASGI without a framework: AWS's models are the router, the parser and the error handler, so one would only add
memory and start-up time. uvicorn runs it (`server.config`). Requests are answered in a pool of threads, since
operations ask stores and databases: the event loop, which also serves devices, never waits for them.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from broker_bridge.api import serialize
from broker_bridge.api.context import Context
from broker_bridge.api.dispatch import ApiStats, Dispatcher
from broker_bridge.api.errors import (
    ApiError,
    InternalFailureException,
    MethodNotAllowedException,
    RequestEntityTooLargeException,
    RequestTimeoutException,
    ServiceUnavailableException,
)
from broker_bridge.api.service import Service
from broker_bridge.api.wire import Request, Response

log = structlog.stdlib.get_logger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 512 * 1024
"""Bytes of a body. The largest CreateStream that AWS's limits allow, all of it escaped, has 420 KB."""
BODY_SECONDS = 30.0
"""Time for a body to arrive."""
THREADS = 4
MAX_REQUESTS = 64
"""Requests read, waiting or answered at once; one more is refused with 503, and AWS's clients try again."""
# A client that still sends when we close loses the answer to a reset (RFC 9112, 9.6): so much more is read.
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 2.0

Health = Callable[[], tuple[bool, dict[str, Any]]]
Metrics = Callable[[], bytes]


class _Gone(Exception):
    """The client has left."""


class Api:
    """The application. It owns its threads: `close` ends them, and so does uvicorn's shutdown."""

    def __init__(
        self, services: Sequence[Service], context: Context, *, health: Health, metrics: Metrics
    ) -> None:
        """`health`: whether all is well, and what is how; answered on `/healthz` with 200 or 503.

        `metrics`: Prometheus's text format. Both may block, and are called from any thread.
        """
        self._dispatcher = Dispatcher(services, context)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="api")
        # Apart from the operations, so that a store that hangs does not make the service look dead.
        self._watch_pool = ThreadPoolExecutor(1, thread_name_prefix="api-watch")
        self._health = health
        self._metrics = metrics
        self._under_way = 0

    @property
    def stats(self) -> ApiStats:
        """What was answered since the start."""
        return self._dispatcher.stats

    def close(self) -> None:
        """Ends the threads, when they are done with what they have in hand."""
        self._pool.shutdown()
        self._watch_pool.shutdown()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            # A client that leaves needs no answer.
            with contextlib.suppress(_Gone):
                await self._serve(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            ending = message["type"] == "lifespan.shutdown"
            if ending:
                # Not in the event loop: operations may still wait for a store.
                await asyncio.to_thread(self.close)
            await send({"type": f"{message['type']}.complete"})
            if ending:
                return

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        head = scope["method"] == "HEAD"
        path = scope["raw_path"]
        if path in (b"/healthz", b"/metrics"):
            answer = self._healthz if path == b"/healthz" else self._prometheus
            await _respond(send, await self._watch(scope["method"], answer), head)
            return
        if self._under_way >= MAX_REQUESTS:
            busy = ServiceUnavailableException(f"{MAX_REQUESTS} requests are under way; try again")
            await _refuse(receive, send, busy, head)
            return
        self._under_way += 1
        try:
            try:
                request = await _read(scope, receive)
            except ApiError as refusal:
                await _refuse(receive, send, refusal, head)
                return
            loop = asyncio.get_running_loop()
            response = await loop.run_in_executor(self._pool, self._dispatcher.handle, request)
        finally:
            self._under_way -= 1
        await _respond(send, response, head)

    async def _watch(self, method: str, answer: Callable[[], Response]) -> Response:
        if method not in ("GET", "HEAD"):
            return serialize.error(MethodNotAllowedException("only GET and HEAD here", ["GET", "HEAD"]), None)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._watch_pool, answer)
        except Exception:
            log.exception("health or metrics failed")
            return serialize.error(InternalFailureException("the service's log has the cause"), None)

    def _healthz(self) -> Response:
        well, details = self._health()
        body = json.dumps({"status": "ok" if well else "failing", **details}).encode()
        return Response(200 if well else 503, body, [("content-type", "application/json")])

    def _prometheus(self) -> Response:
        return Response(200, self._metrics(), [("content-type", "text/plain; version=0.0.4; charset=utf-8")])


async def _read(scope: Message, receive: Receive) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    length = headers.get("content-length", "0")
    if not (len(length) <= 19 and length.isdecimal() and int(length) <= MAX_BODY):
        raise RequestEntityTooLargeException(f"the body is over {MAX_BODY} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Gone
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_BODY:
                    raise RequestEntityTooLargeException(f"the body is over {MAX_BODY} bytes")
    except TimeoutError:
        raise RequestTimeoutException(f"the body did not arrive within {BODY_SECONDS:g} s") from None
    return Request(scope["method"], scope["raw_path"], scope["query_string"], headers, bytes(body))


async def _respond(send: Send, response: Response, head: bool) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    if response.status != 204:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


async def _refuse(receive: Receive, send: Send, refusal: ApiError, head: bool) -> None:
    """Answers before the body is read, and closes the connection a little later."""
    response = serialize.error(refusal, None)
    length = str(len(response.body))
    headers = [*response.headers, ("content-length", length), ("connection", "close")]
    headers.append(("x-amzn-RequestId", str(uuid.uuid4())))
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": b"" if head else response.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            left = _LINGER_BYTES
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    await send({"type": "http.response.body"})
