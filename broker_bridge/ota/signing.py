"""Signatures over objects: made by keys that the service has, and checked before devices have to.

What is signed is the SHA-256 of the whole file, read in ranges that all belong to one ETag.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from broker_bridge.ota.errors import InvalidUpdate
from broker_bridge.settings import SigningProfile
from broker_bridge.storage.objects import ObjectRef, ObjectStore

RANGE = 1 << 20
"""Bytes of an object in memory while it is hashed."""
RSA_BITS = (2048, 4096)
"""Least and most of a signing key. AWS's OTA SDK has room for a signature of 2048 bits."""
SHA256_ECDSA, SHA256_RSA = "sig-sha256-ecdsa", "sig-sha256-rsa"

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_HASHES: Mapping[str, hashes.HashAlgorithm] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}  # noqa: S303
_KINDS: Mapping[str, type[PublicKey]] = {"ecdsa": ec.EllipticCurvePublicKey, "rsa": rsa.RSAPublicKey}


class Signer(Protocol):
    """A key that signs, wherever it is kept. Calls may block, and come from one thread."""

    key: str
    """The member of the job document: SHA256_ECDSA or SHA256_RSA."""

    def sign(self, digest: bytes) -> bytes:
        """The signature of a file whose SHA-256 that is: DER, or as PKCS #1 v1.5 has it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What `signingProfileName` names."""

    signer: Signer
    certificate_path: str
    """Where devices have the certificate, unless an update says otherwise."""


class KeyFile:
    """A private key from a PEM file: ECDSA on P-256, or RSA."""

    def __init__(self, pem: bytes, password: bytes | None = None) -> None:
        """ValueError for what is no such key, or cannot be decrypted with that password."""
        try:
            key = serialization.load_pem_private_key(pem, password)
        except (TypeError, UnsupportedAlgorithm) as error:
            # TypeError: a password without need, or none where there is need.
            raise ValueError(str(error)) from None
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            self.key = SHA256_ECDSA
        elif isinstance(key, rsa.RSAPrivateKey) and RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
            self.key = SHA256_RSA
        else:
            raise ValueError(f"it must be ECDSA on P-256, or RSA of {RSA_BITS[0]} to {RSA_BITS[1]} bits")
        self._key = key

    @property
    def public_key(self) -> PublicKey:
        """What its signatures are checked with."""
        return self._key.public_key()

    def sign(self, digest: bytes) -> bytes:
        """Signer.sign."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return self._key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))


def load_profiles(settings: Iterable[SigningProfile]) -> dict[str, Profile]:
    """The profiles by name, their keys read now. ValueError names the setting that cannot be used."""
    profiles = {}
    for i, entry in enumerate(settings):
        password = None
        if entry.password_env is not None:
            password = os.environ.get(entry.password_env)
            if password is None:
                raise ValueError(f"signing[{i}].password_env: there is no variable {entry.password_env}")
        try:
            signer = KeyFile(entry.key.read_bytes(), None if password is None else password.encode())
        except OSError as error:
            raise ValueError(f"signing[{i}].key: cannot read {entry.key}: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"signing[{i}].key: {entry.key} is no key that signs: {error}") from None
        profiles[entry.profile] = Profile(signer, entry.certificate_path)
    return profiles


def digest(store: ObjectStore, ref: ObjectRef, size: int, algorithm: str, check: Callable[[], None]) -> bytes:
    """The hash of an object of `size` bytes, all of them `ref`'s; `check` is called before each range.

    Raises what `check` and `ObjectStore.read` raise.
    """
    summed = hashlib.new(algorithm, usedforsecurity=False)
    for start in range(0, size, RANGE):
        check()
        summed.update(store.read(ref, start, min(RANGE, size - start)))
    return summed.digest()


def public_key(text: str) -> PublicKey:
    """The key of a certificate, the first of a chain, or a bare one: in PEM, or PEM or DER in Base64.

    InvalidUpdate for anything else.
    """
    raw = text.strip().encode()
    if not raw.startswith(b"-----"):
        try:
            raw = base64.b64decode(b"".join(raw.split()), validate=True)
        except ValueError:
            raise InvalidUpdate("it is neither PEM nor Base64") from None
    try:
        if b"-----BEGIN PUBLIC KEY-----" in raw:
            key = serialization.load_pem_public_key(raw)
        elif raw.startswith(b"-----"):
            key = load_pem_x509_certificate(raw).public_key()
        else:
            key = load_der_x509_certificate(raw).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidUpdate("it holds no certificate that can be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise InvalidUpdate("its key is neither ECDSA nor RSA")
    return key


def to_pem(key: PublicKey) -> str:
    """As `verifies` takes it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def check_verifiable(key: PublicKey, member: str) -> None:
    """InvalidUpdate unless signatures of that member of a document can be checked with that key."""
    _, hashed, kind = member.split("-", 2)
    if hashed not in _HASHES or kind not in _KINDS:
        raise InvalidUpdate(f"a signature {member} cannot be checked here: leave the certificate out")
    if not isinstance(key, _KINDS[kind]):
        raise InvalidUpdate(f"its key is of another kind than the signature, {member}")


def hash_name(member: str) -> str:
    """The hash of a member that `check_verifiable` has let through, by hashlib's name."""
    return member.split("-")[1]


def verifies(pem: str, member: str, digest: bytes, signature: str) -> bool:
    """Whether the signature (Base64) is one of that digest by that key, which is `to_pem`'s."""
    key = serialization.load_pem_public_key(pem.encode())
    hashed = Prehashed(_HASHES[hash_name(member)])
    raw = base64.b64decode(signature)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(raw, digest, ec.ECDSA(hashed))
        else:
            assert isinstance(key, rsa.RSAPublicKey)
            key.verify(raw, digest, padding.PKCS1v15(), hashed)
    except InvalidSignature:
        return False
    return True
