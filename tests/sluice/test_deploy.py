"""The sample Mosquitto: what it lets devices and the service do, and what not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.sluice.support import Service, sluice
from tests.support.required import find_program, lacking
from tests.support.waiting import accepts, free_port, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """host:port of a Mosquitto with the sample's settings, but for the port; users `sluice`, `t1`, `t2`."""
    programs = {name: find_program(name) for name in ("mosquitto", "mosquitto_passwd")}
    if programs["mosquitto"] is None or programs["mosquitto_passwd"] is None:
        lacking("mosquitto", "the sample settings are for the program")
    port = free_port()
    config = (DEPLOY / "mosquitto.conf").read_text()
    assert "listener 1883 127.0.0.1" in config
    # As root it would become the user mosquitto, who may not read this folder.
    user = "user root\n" if os.geteuid() == 0 else ""
    (tmp_path / "mosquitto.conf").write_text(user + config.replace("1883", str(port)))
    shutil.copy(DEPLOY / "mosquitto.acl", tmp_path)
    (tmp_path / "passwords").touch(0o600)
    for user in ("sluice", "t1", "t2"):
        subprocess.run(
            [programs["mosquitto_passwd"], "-b", "passwords", user, f"of-{user}"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    with (tmp_path / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(
            [programs["mosquitto"], "-c", "mosquitto.conf"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        wait_until(
            lambda: process.poll() is not None or accepts("127.0.0.1", port), what="Mosquitto's listening"
        )
        assert process.poll() is None, (tmp_path / "mosquitto.log").read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_each_thing_is_served_as_itself_alone(tmp_path: Path, broker: str) -> None:
    (tmp_path / "fw").write_bytes(b"firmware" * 10_000)
    with Service(tmp_path, "--broker", f"mqtt://sluice:of-sluice@{broker}") as service:
        published = sluice(
            ["publish", "fw", "--stream", "s", "--http", service.http, "--state", "state"], tmp_path
        )
        assert published.returncode == 0, published.stderr
        call = ["get", "--stream", "s", "--out", "got", "--broker", f"mqtt://t1:of-t1@{broker}"]
        own = sluice([*call, "--thing", "t1"], tmp_path)
        assert own.returncode == 0, own.stderr
        assert (tmp_path / "got").read_bytes() == b"firmware" * 10_000
        other = sluice([*call, "--thing", "t2", "--timeout", "4"], tmp_path)
        assert other.returncode == 1
        stranger = [*call[:-1], f"mqtt://{broker}", "--thing", "t1"]
        assert sluice(stranger, tmp_path).returncode == 3


def test_each_thing_hears_of_its_own_jobs_alone(tmp_path: Path, broker: str) -> None:
    host, port = broker.split(":")
    with Service(tmp_path, "--broker", f"mqtt://sluice:of-sluice@{broker}"):
        heard: Queue[tuple[str, str]] = Queue()
        clients = {}
        for name in ("t1", "t2"):
            client = mqtt.Client(CallbackAPIVersion.VERSION2)
            client.username_pw_set(name, f"of-{name}")
            client.on_message = lambda _client, who, message: heard.put((who, message.topic))
            client.user_data_set(name)
            client.connect(host, int(port))
            for verb in ("get/+", "start-next/+", "+/get/+", "+/update/+", "notify", "notify-next"):
                client.subscribe(f"$aws/things/t1/jobs/{verb}", 1)
            client.loop_start()
            clients[name] = client
        try:
            for verb in ("get", "start-next", "$next/get"):
                # Not answered: or t1 would hear of it.
                clients["t2"].publish(f"$aws/things/t1/jobs/{verb}", b"{}", 1).wait_for_publish(30)
            answers = {
                "get": "get/accepted",
                "start-next": "start-next/accepted",
                "$next/get": "$next/get/accepted",
                "job/get": "job/get/rejected",
                "job/update": "job/update/rejected",
            }
            for verb, answer in answers.items():
                clients["t1"].publish(f"$aws/things/t1/jobs/{verb}", b"{}", 1).wait_for_publish(30)
                assert heard.get(timeout=30) == ("t1", f"$aws/things/t1/jobs/{answer}")
            assert heard.empty()
        finally:
            for client in clients.values():
                client.loop_stop()
                client.disconnect()
