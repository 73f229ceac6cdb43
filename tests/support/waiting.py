"""Ports that stay free, and waiting for a condition instead of for a time."""

import secrets
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Below the range from which Linux, macOS and Windows take the ports of outgoing connections: nothing
# takes such a port by chance between our looking and the server's binding.
_FIRST_PORT, _LAST_PORT = 20000, 32000


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of `host` on which nothing listens."""
    for _ in range(200):
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port on {host} from {_FIRST_PORT} to {_LAST_PORT}")


def wait_until(predicate: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """Calls `predicate` until it returns something true, and returns that.

    Raises AssertionError after `timeout` seconds, naming `what` was waited for.
    """
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        # Read before the call: a predicate that was slow to come true has still come true.
        late = time.monotonic() > deadline
        if result := predicate():
            return result
        if late:
            raise AssertionError(f"not within {timeout:g} s: {what or predicate}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def accepts(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False
