"""The fixtures keep their promises: other tests stand on them."""

import socket

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import MosquittoFactory
from tests.support.moto import MotoServer
from tests.support.required import lacking
from tests.support.waiting import accepts, free_port, wait_until


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_waiting_ends_with_the_conditions_value() -> None:
    values = iter([0, 0, 7])
    assert wait_until(lambda: next(values)) == 7
    with pytest.raises(AssertionError, match="a blue moon"):
        wait_until(lambda: False, timeout=0, what="a blue moon")


def test_mosquitto_delivers_and_restarts_on_its_port(mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    got: list[bytes] = []

    def on_message(client: PahoClient, userdata: object, message: MQTTMessage) -> None:
        got.append(bytes(message.payload))

    for before in ("started", "restarted", "killed"):
        if before == "killed":
            broker.kill()
        if before != "started":
            broker.restart()
        client = PahoClient(CallbackAPIVersion.VERSION2)
        client.on_message = on_message
        client.connect(broker.host, broker.port)
        client.loop_start()
        client.subscribe("a/b", qos=1)
        got.clear()
        # Published until heard: the subscription may not be granted yet.
        wait_until(lambda: client.publish("a/b", b"hello", qos=1) and got)  # noqa: B023
        client.disconnect()
        client.loop_stop()
    broker.stop()
    assert not accepts(broker.host, broker.port)
    assert "terminating" in broker.log_path.read_text()


def test_mosquitto_takes_settings(mosquitto: MosquittoFactory) -> None:
    broker = mosquitto("max_queued_messages 7\nallow_anonymous false", listener_lines=["max_connections 5"])
    results: list[object] = []
    client = PahoClient(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *args: results.append(args[3])
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert str(wait_until(lambda: results)[0]) == "Not authorized"
    client.loop_stop()
    with pytest.raises(RuntimeError, match="no_such_setting"):
        mosquitto("no_such_setting 1")


def test_moto_keeps_objects(moto_s3: MotoServer) -> None:
    first, second = moto_s3.bucket(), moto_s3.bucket()
    assert first != second
    moto_s3.client().put_object(Bucket=first, Key="k", Body=b"body")
    assert moto_s3.client().get_object(Bucket=first, Key="k")["Body"].read() == b"body"


def test_no_client_reaches_aws() -> None:
    with pytest.raises(EndpointConnectionError, match=r"127\.0\.0\.1"):
        boto3.client("sts").get_caller_identity()


def test_a_required_program_that_is_lacking_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_REQUIRE", "mosquitto,micropython")
    with pytest.raises(pytest.fail.Exception, match="micropython"):
        lacking("micropython", "it is not here")
    with pytest.raises(pytest.skip.Exception, match="qemu"):
        lacking("qemu", "it is not here")
