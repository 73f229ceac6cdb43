"""The downloads as they run: uvicorn on a real socket over a folder, and ways to ask it."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from broker_bridge.api import server
from broker_bridge.downloads.app import Downloads
from broker_bridge.downloads.links import Links
from broker_bridge.downloads.resolving import Resolver
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectRef, ObjectStore
from tests.support.waiting import wait_until

BUCKET = "firmware"
NOW = 1_700_000_000


@dataclass
class Answer:
    """What came back: header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Running:
    """A running server of downloads. `close` ends it."""

    folder: Path
    store: ObjectStore | None = None
    connections: int = 100
    now: float = NOW

    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        used = self.store or FolderStore(self.folder)
        listener = self._stack.enter_context(server.listen("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self.links = Links(b"k" * 32, server.url(listener))
        self.resolver = Resolver(used, self.links, clock=lambda: self.now)
        self.app = Downloads(used, self.links, connections=self.connections, clock=lambda: self.now)
        self._server = uvicorn.Server(server.config(self.app, "127.0.0.1", 0, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), what="uvicorn's start")
        assert self._server.started

    def close(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.app.close()
        self._stack.close()

    def put(self, key: str, content: bytes) -> str:
        """Puts an object there and returns an URL of it, as a device gets it in its document."""
        path = self.folder / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name("new")
        new.write_bytes(content)
        new.rename(path)
        return self.url(key)

    def url(self, key: str, seconds: int = 60) -> str:
        """What a placeholder of that object becomes."""
        return self.resolver.resolve(f"${{aws:iot:s3-presigned-url:s3://{BUCKET}/{key}}}", seconds)

    def link(self, key: str, etag: str, expires: int = NOW + 60) -> str:
        """A signed URL of any object."""
        return self.links.url(ObjectRef(BUCKET, key, etag), expires)

    def ask(self, url: str, method: str = "GET", **headers: str) -> Answer:
        """One request on a connection of its own; `if_range` stands for If-Range."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return exchange(connection, url, method, **headers)
        finally:
            connection.close()

    @contextmanager
    def raw(self, sent: bytes = b"", receive_buffer: int | None = None) -> Iterator[socket.socket]:
        """A plain connection on which that was sent."""
        with socket.socket() as made:
            if receive_buffer is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            made.settimeout(60)
            made.connect(("127.0.0.1", self.port))
            made.sendall(sent)
            yield made


def exchange(connection: http.client.HTTPConnection, url: str, method: str = "GET", **headers: str) -> Answer:
    """One request on that connection."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}"
    connection.request(
        method, target, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )
    response = connection.getresponse()
    lower = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, lower, response.read())


def request_of(url: str, *headers: str) -> bytes:
    """A GET of that URL, as bytes."""
    parts = urlsplit(url)
    lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def until(gone: Callable[[], bytes]) -> bytes:
    """All that `gone` reads until the connection ends, in order or not."""
    received = bytearray()
    try:
        while data := gone():
            received += data
    except ConnectionError:
        pass
    return bytes(received)
