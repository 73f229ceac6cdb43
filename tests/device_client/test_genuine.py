"""Only what was asked for or signed gets its name; what stands between machine and sink keeps its word."""

import hashlib
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256 as SHA256_HASH
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_client import ecdsa
from device_client.client import FileSink, NotGenuine
from device_client.clock import now
from device_client.download import Download
from device_client.fetch import Fetch
from device_client.file_sink import PlainFileSink
from device_client.sinks import MemorySink, Record, Sink
from tests.device_client.doing import CONTENT, SHA256, get, leave_half
from tests.device_client.model import Service
from tests.device_client.responder import Responder
from tests.support.mosquitto import MosquittoServer

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SIGNATURE = KEY.sign(CONTENT, ec.ECDSA(SHA256_HASH()))


class TestSignatures:
    @pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER], ids=["PEM", "DER"])
    def test_a_signed_file(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path, encoding: Encoding
    ) -> None:
        key = KEY.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        result = get(broker, tmp_path / "fw.bin", public_key=key, signature=SIGNATURE)
        assert result.sha256 == SHA256
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT

    @pytest.mark.parametrize(
        "signature",
        [KEY.sign(CONTENT + b"x", ec.ECDSA(SHA256_HASH())), b"", b"\x30"],
        ids=["another file's", "empty", "malformed"],
    )
    def test_another_signature_leaves_nothing(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path, signature: bytes
    ) -> None:
        (tmp_path / "fw.bin").write_bytes(b"the old one")
        with pytest.raises(NotGenuine, match="signature does not verify"):
            get(broker, tmp_path / "fw.bin", sha256=SHA256, public_key=PUBLIC, signature=signature)
        assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"fw.bin": b"the old one"}

    def test_what_was_left_of_another_file_starts_over(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        leave_half(broker, responder, tmp_path / "fw.bin")
        with (tmp_path / "fw.bin.part").open("r+b") as file:
            file.seek(50_000)
            file.write(b"spoilt")
        result = get(broker, tmp_path / "fw.bin", public_key=PUBLIC, signature=SIGNATURE)
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT
        assert result.resumed == 0

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "public_key is not PEM or DER"),
            (b"\x04" + bytes(64), "public_key is not PEM or DER"),
            (
                ec.generate_private_key(ec.SECP384R1())
                .public_key()
                .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                "public_key is not an ECDSA key on P-256",
            ),
        ],
        ids=["malformed", "a point", "P-384"],
    )
    def test_no_such_key(self, tmp_path: Path, broker: MosquittoServer, key: bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            get(broker, tmp_path / "fw.bin", public_key=key, signature=SIGNATURE)
        with pytest.raises(ValueError, match="not given together"):
            get(broker, tmp_path / "fw.bin", public_key=PUBLIC)
        assert list(tmp_path.iterdir()) == []


class Talk:
    """A Fetch and the model service, without a broker between them."""

    def __init__(self, sink: Sink, content: bytes = CONTENT, **settings: object) -> None:
        self.service = Service({0: content})
        self.made = 0
        self.fetch = Fetch(self.machine, sink, **settings)  # type: ignore[arg-type]
        self.requests: list[tuple[str, bytes]] = []
        self.fetch.send = lambda topic, payload: self.requests.append((topic, payload))
        self.fetch.session(True)

    def machine(self, record: Record | None) -> Download:
        self.made += 1
        return Download("mast", "fw", 0, f"token{self.made}", now(), budget=65536, resume=record)

    def turn(self) -> int:
        """What is asked is answered; how long the fetch is ready to wait then."""
        pause = self.fetch.turn()
        asked, self.requests = self.requests, []
        for request in asked:
            for topic, payload in self.service.answers(*request):
                self.fetch.message(topic, payload)
        return pause

    def to_the_end(self) -> None:
        while not self.fetch.finished():
            self.turn()
        self.fetch.close()


class TestFetch:
    def test_the_signature_a_small_machine_checks(self) -> None:
        sink = MemorySink()
        talk = Talk(sink, verify=partial(self.verify, SIGNATURE))
        talk.to_the_end()
        assert sink.data == CONTENT
        assert talk.fetch.digest == hashlib.sha256(CONTENT).digest()
        wrong = Talk(MemorySink(), content=CONTENT[::-1], verify=partial(self.verify, SIGNATURE))
        with pytest.raises(NotGenuine, match="signature"):
            wrong.to_the_end()

    @staticmethod
    def verify(signature: bytes, digest: bytes) -> bool:
        return ecdsa.verify(PUBLIC, digest, signature)

    def test_another_hash(self, tmp_path: Path) -> None:
        talk = Talk(PlainFileSink(str(tmp_path / "fw.bin")), expected=bytes(32))
        with pytest.raises(NotGenuine, match="SHA-256 is another"):
            talk.to_the_end()
        assert list(tmp_path.iterdir()) == []

    def test_a_busy_caller_is_asked_for_nothing(self) -> None:
        busy = False
        talk = Talk(MemorySink(), busy=lambda: busy)
        talk.turn()
        busy = True
        for _ in range(5):
            assert talk.turn() <= 50  # milliseconds until it is asked whether it is still busy
        assert talk.service.requests == []
        busy = False
        talk.to_the_end()
        assert talk.fetch.held == len(CONTENT)

    @pytest.mark.parametrize("make", [PlainFileSink, FileSink])
    def test_half_done_is_taken_up_where_something_will_tell(
        self, tmp_path: Path, make: type[PlainFileSink]
    ) -> None:
        path = str(tmp_path / "fw.bin")
        digest = hashlib.sha256(CONTENT).digest()
        for settings, resumes in (({}, False), ({"expected": digest}, True)):
            half = Talk(make(path), expected=digest, save_bytes=100_000)
            while half.fetch.held < 1_000_000:
                half.turn()
            assert half.fetch.unsaved < 100_000 + 65536
            half.fetch.close()
            rest = Talk(make(path), **settings)
            rest.to_the_end()
            assert Path(path).read_bytes() == CONTENT
            assert (rest.fetch.resumed >= 1_000_000) == resumes

    def test_what_was_left_of_another_file_starts_over(self, tmp_path: Path) -> None:
        path = str(tmp_path / "fw.bin")
        half = Talk(PlainFileSink(path), content=CONTENT[::-1], expected=bytes(32))
        while half.fetch.held < 1_000_000:
            half.turn()
        half.fetch.close()
        rest = Talk(PlainFileSink(path), expected=hashlib.sha256(CONTENT).digest())
        assert rest.fetch.machine.state != "done"
        rest.to_the_end()
        assert Path(path).read_bytes() == CONTENT
        assert rest.fetch.resumed == 0
        assert rest.made == 2

    def test_progress_is_told_when_something_came(self) -> None:
        seen: list[tuple[int, int]] = []
        talk = Talk(MemorySink(), progress=lambda *figures: seen.append(figures))
        talk.to_the_end()
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        assert seen[:-1] == sorted(set(seen[:-1]))
