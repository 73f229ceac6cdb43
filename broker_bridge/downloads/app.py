"""The ASGI application that serves what `links` has signed: GET and HEAD, whole or one range of it.

A file is read a little at a time and no faster than it is taken, so that a download costs the same memory
whatever the file's size. Every read is bound to the ETag that was signed (PROTOCOL "Whose bytes"): once the
object is another, an answer under way is cut short, and no further one begins.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog

from broker_bridge.counting import Counts
from broker_bridge.downloads.links import PREFIX, LinkExpired, LinkRefused, Links
from broker_bridge.downloads.ranges import (
    NotModified,
    PreconditionFailed,
    RangeNotSatisfiable,
    Span,
    wanted,
)
from broker_bridge.storage.objects import (
    BucketMissing,
    Bytes,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    ObjectRef,
    ObjectStore,
    StorageError,
)

log = structlog.get_logger("downloads")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
T = TypeVar("T")

READ_SIZE = 64 * 1024
"""Bytes read, and handed to the connection, at once. The connection holds one more while it is not taken."""
READERS = 4
"""Threads that read where that takes waiting."""
RETRY_SECONDS = 5
"""What `Retry-After` asks for."""


class _Refused(Exception):
    """An answer that is not the file: its status, what is to be read in it, and headers beside the usual."""

    def __init__(self, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


_BUSY = (("retry-after", str(RETRY_SECONDS)),)


class Downloads:
    """The application. It owns its threads: `close` ends them."""

    def __init__(
        self,
        store: ObjectStore,
        links: Links,
        *,
        connections: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`connections`: answers under way at once; one more is refused with 503.

        `clock`: seconds since 1970.
        """
        self._store = store
        self._links = links
        self._connections = connections
        self._clock = clock
        self.under_way = 0
        """Answers under way, also to clients that have left and were not found out yet."""
        self._answers: Counter[int] = Counter()
        self._bytes = 0
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="downloads")

    def counts(self) -> Counts:
        """What was answered since the start. In the event loop's thread, which counts."""
        answers = {f"sluice_downloads {status}": number for status, number in self._answers.items()}
        return {
            **answers,
            "sluice_download_bytes": self._bytes,
            "sluice_downloads_under_way": self.under_way,
        }

    def close(self) -> None:
        """Ends the threads, when they are done with what they have in hand."""
        self._pool.shutdown()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3, of HTTP alone."""
        if self.under_way >= self._connections:
            busy = _Refused(503, f"{self._connections} downloads are under way; try again", _BUSY)
            await self._answer(send, busy)
            return
        self.under_way += 1
        # Heard only while somebody listens; without it, a file would be read to its end for nobody.
        gone = asyncio.ensure_future(_left(receive))
        try:
            await self._serve(scope, send, gone)
        except _Refused as refused:
            await self._answer(send, refused)
        except asyncio.CancelledError:
            # The service ends and has waited long enough. uvicorn closes what is unfinished.
            log.info("a download was cut short by the end of the service")
        finally:
            self.under_way -= 1
            gone.cancel()

    async def _serve(self, scope: Message, send: Send, gone: "asyncio.Future[None]") -> None:
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            raise _Refused(405, "only GET and HEAD here", (("allow", "GET, HEAD"),))
        ref = self._open(scope)
        with _refusals():
            info = await self._in_thread(partial(self._store.head, ref.bucket, ref.key))
            if info.etag != ref.etag:
                raise ObjectChanged(f"object {ref.key!r} of bucket {ref.bucket!r}: its ETag is {info.etag}")
        headers = [("etag", f'"{ref.etag}"'), ("accept-ranges", "bytes")]
        try:
            span = wanted(method, _fields(scope), info.size, ref.etag)
        except NotModified:
            await self._start(send, 304, headers)
            await send({"type": "http.response.body"})
            return
        except PreconditionFailed:
            raise _Refused(412, "If-Match names other bytes than these", tuple(headers)) from None
        except RangeNotSatisfiable:
            headers.append(("content-range", f"bytes */{info.size}"))
            raise _Refused(416, f"there are {info.size} bytes", tuple(headers)) from None
        status = 200
        if span is not None:
            status = 206
            headers.append(("content-range", f"bytes {span.start}-{span.end - 1}/{info.size}"))
        else:
            span = Span(0, info.size)
        # Browsers may open a link too: they must take it for data, whatever is in it.
        headers += [("content-type", "application/octet-stream"), ("x-content-type-options", "nosniff")]
        headers.append(("content-length", str(span.end - span.start)))
        await self._send(method, send, gone, status, headers, ref, span)

    def _open(self, scope: Message) -> ObjectRef:
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        try:
            return self._links.open(path, query, self._clock())
        except (LinkRefused, LinkExpired) as error:
            raise _Refused(403, str(error)) from None

    async def _send(
        self,
        method: str,
        send: Send,
        gone: "asyncio.Future[None]",
        status: int,
        headers: list[tuple[str, str]],
        ref: ObjectRef,
        span: Span,
    ) -> None:
        if method == "HEAD" or span.start == span.end:
            await self._start(send, status, headers)
            await send({"type": "http.response.body"})
            return
        at = span.start
        while at < span.end and not gone.done():
            length = min(READ_SIZE, span.end - at)
            try:
                with _refusals():
                    data = await self._read(ref, at, length)
            except _Refused as refused:
                if at == span.start:
                    raise
                # Without the bytes that Content-Length has promised, nobody takes this for the whole.
                log.warning("a download was cut short", reason=str(refused.__cause__), at=at)
                return
            if at == span.start:
                await self._start(send, status, headers)
            at += length
            self._bytes += length
            await send({"type": "http.response.body", "body": data, "more_body": at < span.end})
            # Where the bytes were at hand and the client is quick, nothing above has let others have a turn.
            await asyncio.sleep(0)

    async def _answer(self, send: Send, refused: _Refused) -> None:
        body = f"{refused}\n".encode()
        headers = [*refused.headers, ("content-type", "text/plain; charset=utf-8")]
        await self._start(send, refused.status, [*headers, ("content-length", str(len(body)))])
        await send({"type": "http.response.body", "body": body})

    async def _start(self, send: Send, status: int, headers: list[tuple[str, str]]) -> None:
        self._answers[status] += 1
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})

    async def _read(self, ref: ObjectRef, start: int, length: int) -> Bytes:
        quick = self._store.read_quick(ref, start, length)
        if quick is not None:
            return quick
        return await self._in_thread(partial(self._store.read, ref, start, length))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def beside(api: App, downloads: App) -> App:
    """Both on one listener: what is below `/objects/` is a download, the rest the API's."""

    async def both(scope: Message, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["raw_path"].startswith(PREFIX.encode())
        await (downloads if ours else api)(scope, receive, send)

    return both


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """A store's errors as HTTP has them, without the names that they may hold."""
    try:
        yield
    except (ObjectMissing, BucketMissing) as error:
        raise _Refused(404, "there is no such object") from error
    except ObjectForbidden as error:
        raise _Refused(403, "the service may not read the object") from error
    except ObjectChanged as error:
        raise _Refused(412, "the object was overwritten since the URL was made") from error
    except StorageError as error:
        log.warning("the store failed", reason=str(error))
        raise _Refused(503, "the object store does not answer; try again", _BUSY) from error


def _fields(scope: Message) -> dict[str, str]:
    """Header fields by lower-case name; those that came more than once in one line."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


async def _left(receive: Receive) -> None:
    """Returns when the client has left, or has all of its answer. A body of the request is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass
