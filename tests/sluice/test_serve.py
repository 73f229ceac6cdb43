"""`sluice serve` as a process: ready, stopping, and why it does not start."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.conftest import MosquittoFactory
from tests.sluice.support import COMMAND, Service, environment, sluice
from tests.support.waiting import accepts, free_port, wait_until


def taken() -> socket.socket:
    """A socket that listens on a port of its own."""
    return socket.create_server(("127.0.0.1", 0))


def test_the_first_line_says_where_and_a_signal_ends_it_in_order(tmp_path: Path) -> None:
    with Service(tmp_path, "--mqtt", "127.0.0.1:0") as service:
        with urllib.request.urlopen(f"http://{service.http}/healthz", timeout=30) as answer:
            assert answer.status == 200
        port = int(service.mqtt.rpartition(":")[2])
        assert accepts("127.0.0.1", port)
        children = psutil.Process(service.process.pid).children(recursive=True)
        assert children, "the embedded broker is a child process"
        assert service.stop(signal.SIGTERM) == 0
        wait_until(lambda: not any(child.is_running() for child in children), what="the end of the broker")
        assert not accepts("127.0.0.1", port)
        assert "Traceback" not in service.log_path.read_text()


def test_sigint_ends_it_too(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url) as service:
        assert service.mqtt == broker.url
        assert service.stop(signal.SIGINT) == 0


def test_killed_it_leaves_no_broker_behind(tmp_path: Path) -> None:
    with Service(tmp_path, "--mqtt", "127.0.0.1:0") as service:
        children = psutil.Process(service.process.pid).children(recursive=True)
        assert children
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not any(child.is_running() for child in children), what="the end of the broker")


def test_logs_are_json_lines_or_text(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    for form in ("auto", "text"):
        folder = tmp_path / form
        folder.mkdir()
        flags = ("--log-format", form, "--log-level", "debug", "--broker", broker.url)
        with Service(folder, *flags) as service:
            assert service.stop() == 0
            lines = service.log_path.read_text().splitlines()
        assert lines
        if form == "auto":
            assert all({"event", "level", "timestamp", "logger"} <= set(json.loads(line)) for line in lines)
        else:
            assert not any(line.startswith("{") for line in lines)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Service(tmp_path, "--mqtt", "127.0.0.1:0") as service:
        children = psutil.Process(service.process.pid).children(recursive=True)
        host, port = service.http.split(":")
        with socket.create_connection((host, int(port)), 30) as unfinished:
            unfinished.sendall(b"POST /streams/s HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{")
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "stopping" in service.log_path.read_text(), what="the start of the stop")
            assert service.stop(signal.SIGTERM) == -signal.SIGTERM
        wait_until(lambda: not any(child.is_running() for child in children), what="the end of the broker")


@pytest.mark.parametrize("flag", ["--http", "--mqtt"])
def test_a_taken_address_is_status_3(tmp_path: Path, flag: str) -> None:
    with taken() as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        flags = {"--http": "127.0.0.1:0", "--mqtt": "127.0.0.1:0", flag: address}
        words = [word for pair in flags.items() for word in pair]
        result = sluice(["serve", *words, "--state", "state"], tmp_path)
    assert result.returncode == 3
    assert address in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_unreachable_broker_is_status_3(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "sluice.toml").write_text("[broker]\nconnect_timeout = 1\n")
    arguments = ["serve", "--http", "127.0.0.1:0", "--broker", f"mqtt://u:secret@127.0.0.1:{port}"]
    result = sluice([*arguments, "--state", "state"], tmp_path)
    assert result.returncode == 3
    assert f"127.0.0.1:{port}" in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_service_on_the_broker_is_status_3(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url):
        arguments = ["serve", "--http", "127.0.0.1:0", "--broker", broker.url, "--state", "other"]
        result = sluice(arguments, tmp_path)
    assert result.returncode == 3
    assert "another Sluice service" in result.stderr


def test_a_second_service_in_the_state_folder_is_status_3(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    with Service(tmp_path, "--broker", mosquitto().url) as service:
        flags = ["--http", "127.0.0.1:0", "--broker", mosquitto().url]
        result = sluice(["serve", *flags, "--state", str(service.state)], tmp_path)
    assert result.returncode == 3
    assert "Traceback" not in result.stderr


def test_files_of_tls_that_are_none_are_status_2(tmp_path: Path) -> None:
    flags = ["--http", "127.0.0.1:0", "--broker", "mqtts://127.0.0.1:9", "--cafile", "nowhere.pem"]
    result = sluice(["serve", *flags, "--state", "state"], tmp_path)
    assert result.returncode == 2
    assert "nowhere.pem" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_state_folder_that_cannot_be_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    result = sluice(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--state", "state"], tmp_path)
    assert result.returncode == 1
    assert "state" in result.stderr
    assert "Traceback" not in result.stderr


def test_beyond_loopback_it_warns(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    # The last flag of a name counts.
    flags = ("--http", "0.0.0.0:0", "--insecure-http", "--broker", broker.url)
    with Service(tmp_path, *flags) as service:
        assert service.stop() == 0
        said = service.log_path.read_text()
        assert "sluice: warning: whoever reaches http://0.0.0.0:0" in said
        assert "set downloads.url" in said


def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    # A listener that never says CONNACK keeps the start waiting.
    with taken() as listener:
        listener.settimeout(60)
        broker = f"mqtt://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [*COMMAND, "serve", "--http", "127.0.0.1:0", "--broker", broker, "--state", str(tmp_path / "s")],
            cwd=tmp_path,
            env=environment({"HOME": str(tmp_path), "SLUICE_BROKER_CONNECT_TIMEOUT": "600"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process, listener.accept()[0]:
            os.kill(process.pid, signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, "")
    assert "Traceback" not in stderr
