"""What `sluice rollout` asks for, and what it refuses before anything is signed, stored or sent."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sluice.failure import USAGE, Failure, SettingsError
from sluice.loading import Loaded, load
from sluice.rollout import order, signing

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ARN = "arn:aws:iot:us-east-1:000000000000"
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def loaded(folder: Path, toml: str = "", /, **flags: Any) -> Loaded:
    (folder / "sluice.toml").write_text(toml)
    return load(flags, environ={}, folder=folder)


def test_whom_it_is_for(tmp_path: Path) -> None:
    assert order.targets(loaded(tmp_path, group="a, b:c")) == [f"{ARN}:thinggroup/a", f"{ARN}:thinggroup/b:c"]
    assert order.targets(loaded(tmp_path, thing="t")) == [f"{ARN}:thing/t"]
    # A thing in the settings is `sluice get`'s; the flag decides.
    assert order.targets(loaded(tmp_path, 'thing = "t"', group="a")) == [f"{ARN}:thinggroup/a"]
    assert order.targets(loaded(tmp_path, 'group = "a"', thing="t")) == [f"{ARN}:thing/t"]
    for flags in ({}, {"thing": "t", "group": "a"}):
        with pytest.raises(SettingsError, match="either --group or --thing"):
            order.targets(loaded(tmp_path, "", **flags))
    with pytest.raises(SettingsError, match="'a b' is not 1 to 128 of"):
        order.targets(loaded(tmp_path, group="x,a b"))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("fw.bin", "fw-20260304-120000"),
        ("pump 1.4 (final).bin", "pump-1-4-final-20260304-120000"),
        ("é.bin", "update-20260304-120000"),
        ("x" * 99, "x" * 40 + "-20260304-120000"),
    ],
)
def test_ids_fit_their_jobs(tmp_path: Path, name: str, made: str) -> None:
    assert order.update_id(loaded(tmp_path).settings, Path(name), NOON) == made
    assert len(made) <= order.MAX_ID


def test_an_id_that_is_given(tmp_path: Path) -> None:
    assert order.update_id(loaded(tmp_path, id="a-1").settings, Path("f"), NOON) == "a-1"
    for wrong in ("x" * 57, "a b"):
        with pytest.raises(SettingsError, match=r"rollout.id is .* must be 1 to 56 of"):
            order.update_id(loaded(tmp_path, id=wrong).settings, Path("f"), NOON)


def test_all_options(tmp_path: Path) -> None:
    flags: dict[str, Any] = {
        "protocols": "mqtt, HTTP",
        "stages": "5% @ 95% : 10m / 100%",
        "max_per_minute": "30",
        "abort_on": "3%,TIMED_OUT:2.5%:40",
        "device_timeout": "60",
        "continuous": True,
    }
    assert order.options(loaded(tmp_path, "", **flags).settings) == {
        "protocols": ["MQTT", "HTTP"],
        "targetSelection": "CONTINUOUS",
        "awsJobExecutionsRolloutConfig": {"maximumPerMinute": 30},
        "awsJobAbortConfig": {
            "abortCriteriaList": [
                {
                    "failureType": "ALL",
                    "action": "CANCEL",
                    "thresholdPercentage": 3.0,
                    "minNumberOfExecutedThings": 10,
                },
                {
                    "failureType": "TIMED_OUT",
                    "action": "CANCEL",
                    "thresholdPercentage": 2.5,
                    "minNumberOfExecutedThings": 40,
                },
            ]
        },
        "awsJobTimeoutConfig": {"inProgressTimeoutInMinutes": 60},
        "tags": [{"Key": "sluice:stages", "Value": "5@95:10m/100"}],
    }
    assert order.options(loaded(tmp_path).settings) == {"protocols": ["MQTT"]}
    canary = order.options(loaded(tmp_path, canary="2.5%").settings)
    assert canary["tags"] == [{"Key": "sluice:stages", "Value": "2.5@95:10m/100"}]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"protocols": "MQTT,MQTT"}, "rollout.protocols is 'MQTT,MQTT'; it must be MQTT, HTTP or MQTT,HTTP"),
        ({"protocols": "FTP"}, "rollout.protocols is 'FTP'"),
        ({"stages": "5/100"}, "rollout.stages: .*stage 1, '5', needs @SUCCEEDED"),
        ({"stages": "100", "canary": "5"}, "rollout.stages and rollout.canary exclude each other"),
        ({"canary": "100%"}, "rollout.canary is '100%'; it must be a percentage over 0 and under 100"),
        ({"canary": "x"}, "rollout.canary is 'x'"),
        ({"max_per_minute": "0"}, "rollout.max_per_minute is 0; it must be from 1 to 1000"),
        ({"device_timeout": "10081"}, "rollout.device_timeout is 10081; it must be from 1 to 10080"),
        ({"abort_on": "FAILED"}, r"rollout.abort_on is 'FAILED', of which 'FAILED' is not \[KIND:\]PERCENT"),
        ({"abort_on": "5%,0%"}, "of which '0%' is not"),
        ({"abort_on": "101%"}, "of which '101%' is not"),
        ({"abort_on": "5%:0"}, "of which '5%:0' is not"),
        ({"abort_on": "LATE:5%"}, "of which 'LATE:5%' is not"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        order.options(loaded(tmp_path, "", **flags).settings)
    assert caught.value.status == USAGE


def test_a_file_type(tmp_path: Path) -> None:
    settings = loaded(tmp_path, path="/app.bin", file_type="255").settings
    assert order.file(settings, Path("fw.bin"), {}) == {
        "fileName": "/app.bin",
        "fileType": 255,
        "codeSigning": {},
    }
    with pytest.raises(SettingsError, match=r"rollout\.file_type is 256; it must be from 0 to 255"):
        order.file(loaded(tmp_path, file_type="256").settings, Path("fw.bin"), {})


class TestSigning:
    """One way to be signed, and whose mistakes show before anything is sent."""

    def test_one_way_it_must_be(self, tmp_path: Path) -> None:
        for flags in ({}, {"signing_key": "k", "signature": "s"}):
            with pytest.raises(SettingsError, match="one of --key, --signing-profile, --signature"):
                signing.code_signing(loaded(tmp_path, "", **flags).settings, tmp_path / "fw")

    @pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
    def test_a_key_and_what_checks_it(self, tmp_path: Path, kind: str) -> None:
        made: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if kind == "ECDSA":
            made = ec.generate_private_key(ec.SECP256R1())
        else:
            made = rsa.generate_private_key(65537, 2048)
        (tmp_path / "k").write_bytes(made.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
        (tmp_path / "fw").write_bytes(b"image")
        given = signing.code_signing(loaded(tmp_path, signing_key="k").settings, tmp_path / "fw")
        custom = given["customCodeSigning"]
        assert (custom["hashAlgorithm"], custom["signatureAlgorithm"]) == ("SHA256", kind)
        chain = custom["certificateChain"]
        assert chain["certificateName"] == "/device/certs/signer.pem"
        public = made.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert chain["inlineDocument"] == public.decode()
        # By what was read of its file, it is told apart without the key.
        (tmp_path / "sig").write_bytes(base64.b64encode(custom["signature"]["inlineDocument"]))
        given = signing.code_signing(loaded(tmp_path, signature="sig").settings, tmp_path / "fw")
        assert given["customCodeSigning"]["signatureAlgorithm"] == kind
        assert given["customCodeSigning"]["signature"] == custom["signature"]

    def test_a_key_that_cannot_be_used(self, tmp_path: Path) -> None:
        settings = loaded(tmp_path, signing_key="k").settings
        (tmp_path / "fw").write_bytes(b"image")
        with pytest.raises(Failure, match=r"cannot read .*k: No such file"):
            signing.code_signing(settings, tmp_path / "fw")
        (tmp_path / "k").write_bytes(b"no key")
        with pytest.raises(Failure, match="k is no key that can sign"):
            signing.code_signing(settings, tmp_path / "fw")
        other = ec.generate_private_key(ec.SECP384R1())
        (tmp_path / "k").write_bytes(other.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
        with pytest.raises(Failure, match="it must be ECDSA on P-256, or RSA"):
            signing.code_signing(settings, tmp_path / "fw")

    def test_an_encrypted_key_is_asked_for_its_password(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = ec.generate_private_key(ec.SECP256R1())
        secret = serialization.BestAvailableEncryption(b"open sesame")
        (tmp_path / "k").write_bytes(made.private_bytes(PEM, PKCS8, secret))
        (tmp_path / "fw").write_bytes(b"image")
        settings = loaded(tmp_path, signing_key="k").settings
        monkeypatch.setattr("sys.stdin.isatty", lambda: False)
        with pytest.raises(Failure, match="there is no terminal to ask for its password"):
            signing.code_signing(settings, tmp_path / "fw")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("getpass.getpass", lambda _: "wrong")
        with pytest.raises(Failure, match="is no key that can sign"):
            signing.code_signing(settings, tmp_path / "fw")
        monkeypatch.setattr("getpass.getpass", lambda _: "open sesame")
        assert "customCodeSigning" in signing.code_signing(settings, tmp_path / "fw")

    @pytest.mark.parametrize("content", [b"", b"short", b"x" * 100, b"0" * 2000])
    def test_what_is_no_signature(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "sig").write_bytes(content)
        with pytest.raises(Failure, match="sig holds no signature"):
            signing.code_signing(loaded(tmp_path, signature="sig").settings, tmp_path / "fw")

    def test_a_profile(self, tmp_path: Path) -> None:
        for certificate, said in ((None, {}), ("/c.pem", {"certificatePathOnDevice": "/c.pem"})):
            flags = {} if certificate is None else {"certificate": certificate}
            settings = loaded(tmp_path, signing_profile="prod", **flags).settings
            start = signing.code_signing(settings, tmp_path / "fw")["startSigningJobParameter"]
            assert (start["signingProfileName"], start["signingProfileParameter"]) == ("prod", said)
