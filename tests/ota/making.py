"""Keys, certificates, updates and makers for tests."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from broker_bridge.ota.maker import Maker
from broker_bridge.ota.signing import KeyFile, Profile
from broker_bridge.ota.update import ByProfile, Given, Plan, UpdateFile, UpdateStatus, new_stream_id
from broker_bridge.registry.registry import Registry
from broker_bridge.storage.objects import ObjectRef, ObjectStore
from tests.support.waiting import wait_until

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/any"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def private_key(kind: str) -> PrivateKey:
    """The one key of that kind: `ecdsa` (P-256) or `rsa` (2048 bits)."""
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def pem(key: PrivateKey, password: bytes | None = None) -> bytes:
    """The private key as openssl writes it."""
    form = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form)


def public_pem(key: PrivateKey) -> str:
    """The public key alone."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@cache
def certificate(kind: str) -> x509.Certificate:
    """A self-signed certificate of the key of that kind."""
    key = private_key(kind)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def certificate_pem(kind: str) -> str:
    """The certificate in PEM."""
    return certificate(kind).public_bytes(serialization.Encoding.PEM).decode()


def openssl(*arguments: str | Path, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """The openssl command."""
    return subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True, check=False)


def profiles(*kinds: str) -> dict[str, Profile]:
    """Profiles named as their key's kind."""
    return {kind: Profile(KeyFile(pem(private_key(kind))), f"/{kind}.pem") for kind in kinds}


def a_file(
    store: ObjectStore, key: str = "app.bin", signing: Given | ByProfile | None = None, file_id: int = 0
) -> UpdateFile:
    """A file of an update, its object as it is now in the bucket `firmware`."""
    info = store.head("firmware", key)
    ref = ObjectRef("firmware", key, info.etag)
    return UpdateFile(file_id=file_id, path=f"/{key}", object=ref, size=info.size, signing=signing)


def a_plan(*files: UpdateFile, **other: Any) -> Plan:
    """A plan for the thing `t`, over MQTT, with a stream of its own unless it says otherwise."""
    values: dict[str, Any] = {
        "role_arn": ROLE,
        "protocols": ("MQTT",),
        "things": ("t",),
        "groups": (),
        "continuous": False,
        "job_config": "{}",
        "files": files,
        "stream_id": new_stream_id(),
        "makes_stream": True,
    }
    return Plan(**(values | other))


@contextmanager
def making(
    registry: Registry, store: ObjectStore, signers: Mapping[str, Profile] | None = None
) -> Iterator[Maker]:
    """A maker that runs."""
    maker = Maker(registry, store, signers or {}, region=REGION, clock=lambda: datetime.now(UTC))
    maker.start()
    try:
        yield maker
    finally:
        maker.close()


def ended(registry: Registry, name: str) -> UpdateStatus:
    """The status of the update, once it is neither being made nor waiting for it."""
    coming = (UpdateStatus.CREATE_PENDING, UpdateStatus.CREATE_IN_PROGRESS)
    wait_until(lambda: registry.ota.get(name).status not in coming, 60, f"the end of {name}'s creation")
    return registry.ota.get(name).status
