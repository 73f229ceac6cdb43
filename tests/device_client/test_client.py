"""The simple door, over real Mosquittos: whole files, without stalls, in sessions of every kind."""

import hashlib
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from device_client.client import (
    BrokerUnreachable,
    DownloadTimeout,
    MemorySink,
    SubscriptionRefused,
    download,
)
from tests.conftest import MosquittoFactory
from tests.device_client.doing import CONTENT, SHA256, certificate_for_loopback, get
from tests.device_client.model import Message, Service
from tests.device_client.responder import Responder
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import free_port


class TestWhole:
    @pytest.mark.parametrize("encoding", ["cbor", "json"])
    @pytest.mark.parametrize("block_size", [None, 1000, 65536])
    def test_a_file_comes_exact(
        self,
        broker: MosquittoServer,
        responder: Responder,
        tmp_path: Path,
        encoding: str,
        block_size: int | None,
    ) -> None:
        seen: list[tuple[int, int]] = []
        result = get(
            broker,
            tmp_path / "fw.bin",
            encoding=encoding,
            block_size=block_size,
            sha256=SHA256.upper(),
            progress=lambda *figures: seen.append(figures),
        )
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT
        assert [one.name for one in tmp_path.iterdir()] == ["fw.bin"]
        size = block_size or 4096
        assert (result.size, result.sha256, result.block_size) == (len(CONTENT), SHA256, size)
        assert (result.blocks, result.version, result.resumed) == (-(-len(CONTENT) // size), 1, 0)
        assert seen == sorted(seen)
        assert seen[-1] == (len(CONTENT), len(CONTENT))

    def test_into_memory_and_another_file(self, broker: MosquittoServer, responder: Responder) -> None:
        sink = MemorySink()
        assert get(broker, sink, file_id=4).sha256 == hashlib.sha256(b"small").hexdigest()
        assert sink.data == b"small"

    def test_an_empty_file(self, broker: MosquittoServer, responder: Responder, tmp_path: Path) -> None:
        responder.service.files[0] = b""
        result = get(broker, tmp_path / "fw.bin")
        assert (tmp_path / "fw.bin").read_bytes() == b""
        assert (result.size, result.blocks, result.requests) == (0, 0, 0)
        assert result.sha256 == hashlib.sha256().hexdigest()

    def test_ten_lines_are_enough(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        program = f"""
from device_client.client import download

result = download("{broker.url}", thing="mast", stream="fw", out="fw.bin", sha256="{SHA256}")
print(result.size)
"""
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert done.stdout == f"{len(CONTENT)}\n"
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT

    def test_blocks_out_of_order_are_hashed_in_order(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        rng = random.Random(5)
        responder.filter = lambda _request, answers: rng.sample(answers, len(answers))
        assert get(broker, tmp_path / "fw.bin").sha256 == SHA256
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT


class TestStalls:
    """MEASURED, "The 44 ms trap": told by counting, since a loaded machine cannot tell it by time."""

    @pytest.mark.usefixtures("patient")
    def test_several_requests_are_in_flight(self, mosquitto: MosquittoFactory, tmp_path: Path) -> None:
        """A broker with its defaults, and a service that answers nothing until four requests are there."""
        broker = mosquitto(nodelay=False)
        service = Service({0: CONTENT})
        held: list[Message] = []

        def four_at_once(request: Message, answers: list[Message]) -> list[Message]:
            if "/data/" not in answers[0][0]:
                return answers
            held.extend(answers)
            if len(service.requests) < 4:
                return []
            out = held[:]
            held.clear()
            return out

        with Responder(service, broker.port) as slow:
            slow.filter = four_at_once
            result = get(broker, tmp_path / "fw.bin")
        assert result.sha256 == SHA256
        assert sum(one["n"] for one in service.requests) == result.blocks  # and none was asked for twice

    @pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux has TCP_QUICKACK")
    def test_quickack_is_set_before_every_read(
        self, broker: MosquittoServer, responder: Responder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []

        class Watched(socket.socket):
            def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]
                super().setsockopt(level, option, value)
                names = {socket.TCP_NODELAY: "nodelay", socket.TCP_QUICKACK: "quickack"}
                if level == socket.IPPROTO_TCP and value == 1:
                    calls.append(names[option])

            def recv_into(self, *arguments: Any) -> int:
                calls.append("read")
                return super().recv_into(*arguments)

        sink = MemorySink()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Watched)
            get(broker, sink, file_id=4)
        assert calls[0] == "nodelay"
        assert calls.count("quickack") > 4
        assert calls.index("quickack") < calls.index("read")


class TestSession:
    def test_nothing_listens(self, tmp_path: Path) -> None:
        port = free_port()
        with pytest.raises(BrokerUnreachable, match=f"cannot reach 127.0.0.1:{port}: .*refused"):
            download(f"mqtt://127.0.0.1:{port}", thing="mast", stream="fw", out=tmp_path / "fw.bin")
        assert list(tmp_path.iterdir()) == []

    def test_no_such_name(self, tmp_path: Path) -> None:
        with pytest.raises(BrokerUnreachable, match=r"cannot reach no-such\.invalid:1883"):
            download("mqtt://no-such.invalid", thing="mast", stream="fw", out=tmp_path / "fw.bin")

    @pytest.mark.parametrize(
        "url", ["localhost:1883", "http://localhost", "mqtt://", "mqtt://h/path", "mqtt://h:x"]
    )
    def test_no_broker_url(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(ValueError):
            download(url, thing="mast", stream="fw", out=tmp_path / "fw.bin")

    def test_something_else_listens(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("device_client.client.KEEPALIVE", 2)
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(BrokerUnreachable, match=r"no answer within 2 s"):
                download(url, thing="mast", stream="fw", out=tmp_path / "fw.bin")

    def test_password(self, mosquitto: MosquittoFactory, tmp_path: Path) -> None:
        passwords = tmp_path / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "mast", "p@ss:w/rd"], check=True)
        passwords.chmod(0o600)
        broker = mosquitto(f"allow_anonymous false\npassword_file {passwords}")
        for user in ("", "mast:wrong@"):
            with pytest.raises(BrokerUnreachable, match="refused the connection: Not authorized"):
                download(
                    f"mqtt://{user}127.0.0.1:{broker.port}", thing="mast", stream="fw", out=tmp_path / "o"
                )
        url = f"mqtt://mast:p%40ss%3Aw%2Frd@127.0.0.1:{broker.port}"
        with pytest.raises(DownloadTimeout):
            download(url, thing="mast", stream="fw", out=tmp_path / "o", patience=0.2)

    def test_subscriptions_are_refused(self, tmp_path: Path) -> None:
        """By a broker that says so: Mosquitto without a plugin grants all and delivers nothing."""

        def broker(server: socket.socket) -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x20\x02\x00\x00")
                request = connection.recv(1000)
                packet_id = request[2:4] if request[1] < 128 else request[3:5]
                connection.sendall(b"\x90\x06" + packet_id + b"\x00\x80\x00\x00")
                connection.recv(1000)

        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=broker, args=(server,))
            thread.start()
            url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(
                SubscriptionRefused, match=r"grant \$aws/things/mast/streams/fw/description/cbor$"
            ):
                download(url, thing="mast", stream="fw", out=tmp_path / "o")
            thread.join(30)

    def test_tls(self, mosquitto: MosquittoFactory, tmp_path: Path) -> None:
        certificate, key = certificate_for_loopback(tmp_path)
        tls = [f"cafile {certificate}", f"certfile {certificate}", f"keyfile {key}"]
        broker = mosquitto(listener_lines=[*tls, "require_certificate true"])
        url = f"mqtts://127.0.0.1:{broker.port}"
        sink = MemorySink()
        files: dict[str, Any] = {"cafile": certificate, "cert": certificate, "key": key}
        with Responder(Service({0: CONTENT}), broker.port, tls=(certificate, key)):
            assert download(url, thing="mast", stream="fw", out=sink, **files).sha256 == SHA256
        with pytest.raises(BrokerUnreachable, match="certificate verify failed"):
            download(url, thing="mast", stream="fw", out=sink, cert=certificate, key=key)
        with pytest.raises(BrokerUnreachable, match="cannot use the TLS files"):
            download(url, thing="mast", stream="fw", out=sink, cafile=str(tmp_path / "none"))
        with pytest.raises(BrokerUnreachable):
            download(url, thing="mast", stream="fw", out=sink, cafile=certificate)
