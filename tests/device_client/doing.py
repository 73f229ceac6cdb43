"""What the tests of the simple door do again and again."""

import datetime
import hashlib
import ipaddress
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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


def certificate_for_loopback(folder: Path) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(paths[0]), str(paths[1])
