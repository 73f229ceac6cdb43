"""Signatures held against openssl's, and keys that cannot be used told apart at the start."""

import base64
import hashlib
import io
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from broker_bridge.ota import signing
from broker_bridge.ota.errors import InvalidUpdate
from broker_bridge.ota.signing import RANGE, KeyFile, load_profiles
from broker_bridge.settings import SigningProfile
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectChanged, ObjectRef
from tests.ota.making import certificate, certificate_pem, openssl, pem, private_key, public_pem

IMAGE = bytes(range(256)) * 40
KINDS = ["ecdsa", "rsa"]


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_verifies_what_we_sign(kind: str, tmp_path: Path) -> None:
    signer = KeyFile(pem(private_key(kind)))
    assert signer.key == f"sig-sha256-{kind}"
    (tmp_path / "sig").write_bytes(signer.sign(hashlib.sha256(IMAGE).digest()))
    (tmp_path / "public.pem").write_text(public_pem(private_key(kind)))
    verify = ("dgst", "-sha256", "-verify", tmp_path / "public.pem", "-signature", tmp_path / "sig")
    assert openssl(*verify, given=IMAGE).stdout == b"Verified OK\n"
    assert openssl(*verify, given=IMAGE + b"x").returncode != 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_we_verify_what_openssl_signs(kind: str, algorithm: str, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(private_key(kind)))
    made = openssl("dgst", f"-{algorithm}", "-sign", tmp_path / "key.pem", given=IMAGE)
    assert made.returncode == 0, made.stderr
    text = base64.b64encode(made.stdout).decode()
    digest, other = hashlib.new(algorithm, IMAGE).digest(), hashlib.new(algorithm, b"other").digest()
    member = f"sig-{algorithm}-{kind}"
    assert signing.hash_name(member) == algorithm
    assert signing.verifies(public_pem(private_key(kind)), member, digest, text)
    assert not signing.verifies(public_pem(private_key(kind)), member, other, text)
    assert not signing.verifies(public_pem(private_key(kind)), member, digest, "AAAA" + text[4:])


def test_a_key_under_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.pem").write_bytes(pem(private_key("ecdsa"), b"secret"))
    entry = SigningProfile(
        profile="p", key=tmp_path / "key.pem", certificate_path="/c", password_env="THE_PASSWORD"
    )
    with pytest.raises(ValueError, match=r"^signing\[0\]\.password_env: .*THE_PASSWORD"):
        load_profiles([entry])
    monkeypatch.setenv("THE_PASSWORD", "wrong")
    with pytest.raises(ValueError, match=r"^signing\[0\]\.key: .*key\.pem is no key that signs"):
        load_profiles([entry])
    monkeypatch.setenv("THE_PASSWORD", "secret")
    profile = load_profiles([entry])["p"]
    assert (profile.signer.key, profile.certificate_path) == ("sig-sha256-ecdsa", "/c")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"not a key",
        pem(private_key("ecdsa"), b"secret"),
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 1024)),
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        public_pem(private_key("ecdsa")).encode(),
    ],
    ids=["missing", "empty", "text", "encrypted", "P-384", "RSA 1024", "Ed25519", "public"],
)
def test_keys_that_cannot_sign(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^signing\[0\]\.key: ") as caught:
        load_profiles([SigningProfile(profile="p", key=path, certificate_path="/c")])
    assert str(path) in str(caught.value)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_in_every_form(kind: str) -> None:
    text = certificate_pem(kind)
    der = base64.b64encode(certificate(kind).public_bytes(serialization.Encoding.DER)).decode()
    other = certificate_pem("rsa" if kind == "ecdsa" else "ecdsa")
    forms = [text, "\n" + text + other, base64_of(text), der, public_pem(private_key(kind))]
    for form in forms:
        assert signing.to_pem(signing.public_key(form)) == public_pem(private_key(kind)), form


@pytest.mark.parametrize(
    "text", ["x", "AAAA", "é", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "-----"]
)
def test_what_is_no_certificate(text: str) -> None:
    with pytest.raises(InvalidUpdate):
        signing.public_key(text)


class Watched(FolderStore):
    """A folder that notes the lengths that are read, and is written to after the first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lengths: list[int] = []
        self.overwrite = False

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        found = super().read(ref, start, length)
        self.lengths.append(length)
        if self.overwrite:
            self.put(ref.bucket, ref.key, io.BytesIO(b"other"), 5)
        return found


def test_a_file_is_hashed_in_ranges_of_one_etag(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    content = IMAGE * 230
    (tmp_path / "b" / "k").write_bytes(content)
    store = Watched(tmp_path)
    info = store.head("b", "k")
    ref = ObjectRef("b", "k", info.etag)
    checks: list[int] = []
    found = signing.digest(store, ref, info.size, "sha256", lambda: checks.append(1))
    assert found == hashlib.sha256(content).digest()
    assert store.lengths == [RANGE, RANGE, len(content) - 2 * RANGE]
    assert len(checks) == 3
    store.overwrite = True
    with pytest.raises(ObjectChanged):
        signing.digest(store, ref, info.size, "sha256", lambda: None)
    store.close()
