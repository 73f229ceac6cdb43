"""An HTTP server in front of another one that does to chosen requests what networks and stores do."""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass
class Answer:
    """What the server behind has answered, or what is to be said in its place. Header names in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Exchange:
    """One request and the ways to answer it."""

    def __init__(self, handler: "_Handler", body: bytes) -> None:
        self.method = handler.command
        self.path = handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = body
        self._handler = handler

    def forward(self) -> Answer:
        """Asks the server behind."""
        upstream = urlsplit(self._handler.proxy.upstream)
        connection = http.client.HTTPConnection(str(upstream.hostname), upstream.port, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name != "expect"}
            connection.request(self.method, self.path, self.body or None, headers)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            kept = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
            return Answer(response.status, kept, response.read())
        finally:
            connection.close()

    def head(self, answer: Answer) -> None:
        """Sends status and headers; Content-Length is the true one where the answer does not say another."""
        self._handler.send_response(answer.status)
        for name, value in answer.headers.items():
            self._handler.send_header(name, value)
        if "content-length" not in answer.headers:
            self._handler.send_header("Content-Length", str(len(answer.body)))
        self._handler.end_headers()

    def write(self, data: bytes) -> None:
        """Sends some of the body."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def answer(self, answer: Answer) -> None:
        """Sends it whole."""
        self.head(answer)
        if self.method != "HEAD":
            self.write(answer.body)

    def hang_up(self, *, reset: bool = False) -> None:
        """Ends the connection here; with `reset` as a crash does, not as a close."""
        self._handler.close_connection = True
        connection: socket.socket = self._handler.connection
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # A duplicate held by the buffered files would keep it open.
            self._handler.rfile.close()
            with contextlib.suppress(OSError):
                self._handler.wfile.close()
        else:
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


Fault = Callable[[Exchange], None]


class FaultProxy:
    """Serves `endpoint_url` from `upstream`; the next request takes the next of `faults`, or `always`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.faults: deque[Fault] = deque()
        self.always: Fault = lambda exchange: exchange.answer(exchange.forward())
        self.requests: list[Exchange] = []
        self.connections = 0
        self.closing = threading.Event()
        handler = type("_BoundHandler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def inject(self, *faults: Fault) -> None:
        """The next requests get these, one each."""
        self.faults.extend(faults)

    def close(self) -> None:
        """Ends the server and whatever still trickles or stalls."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def setup(self) -> None:
        super().setup()
        self.proxy.connections += 1

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        exchange = Exchange(self, body)
        self.proxy.requests.append(exchange)
        fault = self.proxy.faults.popleft() if self.proxy.faults else self.proxy.always
        fault(exchange)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Not to stderr."""


# --- faults


def status(code: int, error: str = "", headers: dict[str, str] | None = None) -> Fault:
    """Answers with that status and an S3 error body, without asking the server behind."""
    body = f"<Error><Code>{error}</Code><Message>made up</Message></Error>".encode() if error else b""
    return lambda exchange: exchange.answer(
        Answer(code, {"content-type": "application/xml", **(headers or {})}, body)
    )


def reset(exchange: Exchange) -> None:
    """Resets the connection before any answer."""
    exchange.hang_up(reset=True)


def no_answer(exchange: Exchange) -> None:
    """Closes the connection before any answer."""
    exchange.hang_up()


def cut_after(count: int, *, with_reset: bool = False) -> Fault:
    """Promises the whole body and ends the connection after `count` bytes of it."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.head(answer)
        exchange.write(answer.body[:count])
        exchange.hang_up(reset=with_reset)

    return fault


def stall(exchange: Exchange) -> None:
    """Says nothing until the proxy closes."""
    exchange._handler.proxy.closing.wait(60)
    exchange.hang_up()


def trickle(interval: float) -> Fault:
    """Sends the body byte by byte, `interval` seconds apart."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.head(answer)
        with contextlib.suppress(OSError):
            for position in range(len(answer.body)):
                exchange.write(answer.body[position : position + 1])
                if exchange._handler.proxy.closing.wait(interval):
                    break
        exchange._handler.close_connection = True

    return fault


def late(seconds: float) -> Fault:
    """Answers rightly, but only after `seconds`."""

    def fault(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer(exchange.forward())

    return fault


def edited(edit: Callable[[Answer], Answer | None]) -> Fault:
    """Changes the answer in place, or for another."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.answer(edit(answer) or answer)

    return fault


def without_headers(*names: str) -> Fault:
    """Forgets these of the request's headers, as a store does that does not know them."""

    def fault(exchange: Exchange) -> None:
        for name in names:
            exchange.headers.pop(name.lower(), None)
        exchange.answer(exchange.forward())

    return fault


def after(action: Callable[[], object]) -> Fault:
    """Does something (overwrites the object, say) before the server behind is asked."""

    def fault(exchange: Exchange) -> None:
        action()
        exchange.answer(exchange.forward())

    return fault
