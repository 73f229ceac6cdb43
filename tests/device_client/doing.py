"""What the tests of the simple door do again and again."""

import hashlib
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from device_client.client import Result, download
from tests.device_client.model import Message
from tests.device_client.responder import Responder
from tests.support.mosquitto import MosquittoServer

CONTENT = random.Random(2).randbytes(3_000_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def get(broker: MosquittoServer, out: Any, **settings: Any) -> Result:
    return download(broker.url, thing="mast", stream="fw", out=out, **settings)


def stop_after(responder: Responder, blocks: int) -> threading.Event:
    """From then on no block is answered with; the event is set when that point is reached."""
    reached = threading.Event()
    left = blocks

    def some(_request: Message, answers: list[Message]) -> list[Message]:
        nonlocal left
        if "/description/" in answers[0][0]:
            return answers
        sent, left = answers[:left], max(0, left - len(answers))
        if not left:
            reached.set()
        return sent

    responder.filter = some
    return reached


def go_on(responder: Responder) -> None:
    responder.filter = lambda _request, answers: answers


class Stop(Exception):
    """Ends a download from within."""


def leave_half(broker: MosquittoServer, responder: Responder, out: Path) -> None:
    """A download that ends after 100 blocks of 4096 bytes, the first ones, with a record of them."""

    def watch(held: int, _size: int) -> None:
        if held == 100 * 4096:
            raise Stop

    stop_after(responder, 100)
    with pytest.raises(Stop):
        get(broker, out, progress=watch)
    go_on(responder)
    responder.service.requests.clear()
