"""The connection against a real Mosquitto: both versions, TLS, passwords, access rules, death and return."""

import asyncio
import datetime
import ipaddress
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from broker_bridge.mqtt.address import tls_context
from broker_bridge.mqtt.errors import BrokerRefused, BrokerUnreachable
from broker_bridge.mqtt.turn import Turn
from tests.conftest import MosquittoFactory
from tests.mqtt.support import DATA, REJECTED, Recorder, connected, until
from tests.support.required import find_program, lacking

Blocks = list[tuple[bytes, bytes | memoryview]]
GET = "$aws/things/t/streams/s/get/cbor"


class Device:
    """A paho client that listens on its own streams."""

    def __init__(self, port: int, thing: str = "t", password: str | None = None, **options: Any) -> None:
        self.got: list[tuple[str, bytes, int, bool]] = []
        self.subscribed = False
        self.client = Client(CallbackAPIVersion.VERSION2, **options)
        if password is not None:
            self.client.username_pw_set(thing, password)
        self.client.on_message = lambda _client, _data, message: self.got.append(
            (message.topic, bytes(message.payload), message.qos, message.retain)
        )
        own = f"$aws/things/{thing}/streams/#"
        self.client.on_connect = lambda *_: print("subscribed", self.client.subscribe(own, 1))
        self.client.on_subscribe = lambda *_: setattr(self, "subscribed", True)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    async def __aenter__(self) -> "Device":
        await until(lambda: self.subscribed, "the device's subscription")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def of(self, topic: str) -> list[tuple[bytes, int, bool]]:
        return [message[1:] for message in self.got if message[0] == topic]


@pytest.mark.parametrize("version", [5, 4])
@pytest.mark.parametrize("data_qos", [0, 1])
@pytest.mark.parametrize("device_version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
async def test_requests_come_and_answers_go(
    mosquitto: MosquittoFactory, version: int, data_qos: int, device_version: MQTTProtocolVersion
) -> None:
    broker = mosquitto()
    handler = Recorder()
    async with connected(broker.url, handler, ready=False, data_qos=data_qos) as connection:
        connection.stats.version = version
        await connection.wait_ready(30)
        async with Device(broker.port, protocol=device_version) as device:
            payloads = [b"at most once", b"at least once"]
            for qos, payload in enumerate(payloads):
                device.client.publish(GET, payload, qos)
            device.client.publish(GET, bytes(70000), 1)
            await until(lambda: len(handler.messages) == 3, "requests")
            assert handler.messages == [
                (GET, payloads[0], len(payloads[0])),
                (GET, payloads[1], len(payloads[1])),
                (GET, b"", 70000),
            ]
            bodies: list[bytes | memoryview] = [b"x" * 4096, memoryview(b"y" * 131072), b"", b"z" * 100]
            handler.turns.append(Turn(DATA.encode(), b"pre", [b"head"] * len(bodies), bodies))
            connection.wake()
            assert connection.publish(REJECTED, b'{"o":"InvalidRequest"}')
            await until(lambda: len(device.of(DATA)) == 4 and device.of(REJECTED), "answers")
            assert device.of(DATA) == [(b"prehead" + bytes(body), data_qos, False) for body in bodies]
            assert device.of(REJECTED) == [(b'{"o":"InvalidRequest"}', 1, False)]
        assert connection.stats.version == version


async def test_many_blocks_arrive_whole_and_in_order(mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    handler = Recorder()
    async with connected(broker.url, handler) as connection, Device(broker.port) as device:
        sizes = [256, 4096, 16384, 100, 65536]
        expected = []
        for turn in range(100):
            heads = [b"%d/%d" % (turn, i) for i in range(8, 13)]  # of two lengths
            bodies = [bytes([i]) * (sizes[turn % 5] - i % 2) for i in range(5)]
            handler.turns.append(Turn(DATA.encode(), b"p", heads, bodies))
            expected += [b"p" + head + body for head, body in zip(heads, bodies, strict=True)]
        # At the device's pace: Mosquitto drops what a device does not take.
        turns, handler.turns = list(handler.turns), type(handler.turns)()
        for number, turn_ in enumerate(turns):
            handler.turns.append(turn_)
            connection.wake()
            await until(lambda: len(device.got) >= 5 * (number + 1), "blocks")  # noqa: B023
        assert [payload for payload, _, _ in device.of(DATA)] == expected
        assert connection.stats.data_written == 500


async def test_retained_requests_are_not_answered(mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    async with Device(broker.port) as device:
        device.client.publish(GET, b"old", 1, retain=True).wait_for_publish(10)
        for version in (5, 4):
            handler = Recorder()
            async with connected(broker.url, handler, ready=False) as connection:
                connection.stats.version = version
                await connection.wait_ready(30)
                device.client.publish(GET, b"new", 1)
                await until(lambda: handler.messages, "the new request")  # noqa: B023
                assert [payload for _, payload, _ in handler.messages] == [b"new"]


async def test_killed_and_back_again(mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    handler = Recorder()
    async with connected(broker.url, handler) as connection:
        broker.kill()
        await until(lambda: handler.events == ["connected", "disconnected"], "the loss")
        handler.turns.append(Turn(DATA.encode(), b"", [b""], [b"kept by delivery"]))
        assert not connection.publish(REJECTED, b"{}")
        # Off the loop, so that the attempts in between really happen.
        await asyncio.get_running_loop().run_in_executor(None, broker.restart)
        await until(lambda: connection.stats.connects == 2, "the reconnect")
        async with Device(broker.port) as device:
            device.client.publish(GET, b"again", 1)
            await until(lambda: handler.messages, "the subscription's renewal")
        assert handler.events == ["connected", "disconnected", "connected"]


async def test_idle_it_does_next_to_nothing(mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    handler = Recorder()
    async with connected(broker.url, handler, keep_alive=30):
        await asyncio.sleep(0.3)
        assert len(handler.asked) < 10


def certificate(
    name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for 127.0.0.1: a CA of its own where there is no issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def write_pem(folder: Path, name: str, pair: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> None:
    (folder / f"{name}.crt").write_bytes(pair[0].public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        pair[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, a server's and a client's certificate, and a stranger's CA."""
    folder = tmp_path_factory.mktemp("pki")
    ca = certificate("Test CA", None)
    write_pem(folder, "ca", ca)
    write_pem(folder, "server", certificate("server", ca))
    write_pem(folder, "client", certificate("sluice", ca))
    write_pem(folder, "stranger", certificate("Stranger CA", None))
    return folder


async def test_tls_with_certificates_on_both_sides(mosquitto: MosquittoFactory, pki: Path) -> None:
    lines = [f"cafile {pki}/ca.crt", f"certfile {pki}/server.crt", f"keyfile {pki}/server.key"]
    broker = mosquitto(listener_lines=[*lines, "require_certificate true", "use_identity_as_username true"])
    url = broker.url.replace("mqtt:", "mqtts:")
    handler = Recorder()
    tls = tls_context(pki / "ca.crt", pki / "client.crt", pki / "client.key")
    async with connected(url, handler, tls=tls) as connection:
        # To itself: requests from another of its own, more data than all buffers hold.
        other = Recorder()
        async with connected(
            url, other, tls=tls, client_id="other", subscriptions=[(DATA, 0)], max_payload=1 << 20
        ):
            for number in range(40):
                body = bytes([number]) * 65536
                handler.turns.append(Turn(DATA.encode(), b"p", [b"h"] * 2, [body, memoryview(body)]))
                connection.wake()
                await until(lambda: len(other.messages) == 2 * (number + 1), "blocks")  # noqa: B023
            assert [payload for _, payload, _ in other.messages] == [
                b"ph" + bytes([i // 2]) * 65536 for i in range(80)
            ]
    with pytest.raises(BrokerUnreachable, match="TLS: the broker's certificate is not trusted"):
        async with connected(url, handler, tls=tls_context(pki / "stranger.crt")):
            pass
    # Without a certificate of our own: TLS 1.3 says so only after the handshake.
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1"):
        async with connected(url, handler, tls=tls_context(pki / "ca.crt")):
            pass
    with pytest.raises(BrokerUnreachable, match=r"did not answer|without answering|closed|reset"):
        async with connected(broker.url, handler):
            pass


def password_file(path: Path, accounts: dict[str, str]) -> Path:
    program = find_program("mosquitto_passwd")
    if program is None:
        lacking("mosquitto", "mosquitto_passwd is not on this machine")
    path.touch(mode=0o600)
    for name, password in accounts.items():
        subprocess.run([program, "-b", str(path), name, password], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("version", [5, 4])
async def test_passwords(mosquitto: MosquittoFactory, tmp_path: Path, version: int) -> None:
    passwords = password_file(tmp_path / "passwords", {"sluice": "p@ss:/word"})
    broker = mosquitto(f"allow_anonymous false\npassword_file {passwords}")
    good = broker.url.replace("mqtt://", "mqtt://sluice:p%40ss%3A%2Fword@")
    async with connected(good, Recorder(), ready=False) as connection:
        connection.stats.version = version
        await connection.wait_ready(30)
    for bad in (broker.url, broker.url.replace("mqtt://", "mqtt://sluice:wrongly@")):
        async with connected(bad, Recorder(), ready=False) as connection:
            connection.stats.version = version
            with pytest.raises(BrokerRefused, match="not authorized") as caught:
                await connection.wait_ready(30)
            assert "wrongly" not in str(caught.value)


DEPLOY = Path(__file__).parents[2] / "deploy"


async def test_the_sample_configuration(mosquitto: MosquittoFactory, tmp_path: Path) -> None:
    """deploy/mosquitto.conf as it stands, but for port and paths: own topics work, other things' do not."""
    passwords = password_file(tmp_path / "passwords", {"sluice": "s", "t": "t", "u": "u"})
    sample = (DEPLOY / "mosquitto.conf").read_text()
    sample = sample.replace("\npassword_file passwords\n", f"\npassword_file {passwords}\n")
    sample = sample.replace("\nacl_file mosquitto.acl\n", f"\nacl_file {DEPLOY}/mosquitto.acl\n")
    assert sample.count("\nset_tcp_nodelay true\n") == sample.count("\nlistener 1883 127.0.0.1\n") == 1
    for ours in ("\nset_tcp_nodelay true\n", "\nlistener 1883 127.0.0.1\n"):
        sample = sample.replace(ours, "\n")  # the fixture writes these two itself
    broker = mosquitto(sample)
    url = broker.url.replace("mqtt://", "mqtt://sluice:s@")
    service = Recorder()
    async with (
        connected(url, service) as connection,
        Device(broker.port, "t", "t") as own,
        Device(broker.port, "u", "u") as other,
    ):
        for device in (own, other):
            # Everything of everybody: granted, and nothing comes of it.
            device.client.subscribe(
                [("$aws/things/+/streams/#", 1), ("#", 1), ("$aws/things/t/streams/s/data/cbor", 1)]
            )
        for verb in ("get", "describe"):
            other.client.publish(f"$aws/things/t/streams/s/{verb}/cbor", b"in another's name", 1)
            own.client.publish(f"$aws/things/t/streams/s/{verb}/cbor", b"own", 1)
            own.client.publish(f"$aws/things/sluice-probe/streams/s/{verb}/json", b"another's", 1)
        for verb in ("data", "description", "rejected"):
            own.client.publish(f"$aws/things/t/streams/s/{verb}/cbor", b"forged", 1)
            other.client.publish(f"$aws/things/t/streams/s/{verb}/cbor", b"forged", 1)
        other.client.publish("$aws/things/u/streams/s/get/cbor", b"last", 1)
        await until(lambda: any(payload == b"last" for _, payload, _ in service.messages), "the last request")
        await until(lambda: len(service.messages) == 3, "requests")
        assert sorted(payload for _, payload, _ in service.messages) == [b"last", b"own", b"own"]
        for verb in ("description", "rejected"):
            assert connection.publish(f"$aws/things/t/streams/s/{verb}/json", b"{}")
        service.turns.append(Turn(DATA.encode(), b"", [b"h"], [bytes(131072)]))
        connection.wake()
        await until(lambda: len({topic for topic, *_ in own.got}) == 3, "answers")
        assert {payload for _, payload, *_ in own.got} == {b"{}", b"h" + bytes(131072)}
        # What the other would have heard, it would have heard before this.
        connection.publish("$aws/things/u/streams/s/rejected/json", b"end")
        await until(lambda: other.got, "the other's answer")
        assert [payload for _, payload, *_ in other.got] == [b"end"]


async def test_the_sample_configuration_lets_the_service_look_for_another(
    mosquitto: MosquittoFactory, tmp_path: Path
) -> None:
    passwords = password_file(tmp_path / "passwords", {"sluice": "s"})
    broker = mosquitto(
        f"allow_anonymous false\npassword_file {passwords}\nacl_file {DEPLOY / 'mosquitto.acl'}",
    )
    url = broker.url.replace("mqtt://", "mqtt://sluice:s@")
    probe = "$aws/things/sluice-probe/streams/x"
    first, second = Recorder(), Recorder()
    async with (
        connected(url, first) as service,
        connected(url, second, client_id="b", subscriptions=[(f"{probe}/+/json", 1)]) as prober,
    ):
        prober.publish(f"{probe}/describe/json", b"{}")
        await until(lambda: first.messages, "the probe")
        service.publish(f"{probe}/rejected/json", b"here")
        await until(lambda: (f"{probe}/rejected/json", b"here", 4) in second.messages, "the answer")
