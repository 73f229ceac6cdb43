"""Who signs the file: a key on this machine, the service, or somebody who did it before."""

import base64
import binascii
import getpass
import hashlib
import sys
from pathlib import Path
from typing import Any

from sluice.failure import Failure, SettingsError
from sluice.settings import Settings

CERTIFICATE = "/device/certs/signer.pem"
"""Where devices have the certificate, unless a setting says otherwise."""

_HASHED = 1 << 20
_MAX_SIGNATURE = 1024


def code_signing(settings: Settings, path: Path) -> dict[str, Any]:
    """`codeSigning` for the file: the key signs what the file holds now.

    The public key goes along, so that the service takes no update whose object the signature is not of.
    """
    rollout = settings.rollout
    ways = {
        "--key": rollout.signing_key,
        "--signing-profile": rollout.signing_profile,
        "--signature": rollout.signature,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise SettingsError(f"rollout needs one of {', '.join(ways)}\nsluice rollout --help says more")
    if rollout.signing_profile is not None:
        # What is not said here, the profile says.
        path_there = {} if rollout.certificate is None else {"certificatePathOnDevice": rollout.certificate}
        return {
            "startSigningJobParameter": {
                "signingProfileName": rollout.signing_profile,
                "signingProfileParameter": path_there,
                # AWS's model asks where signed objects go. The service signs where the object is.
                "destination": {"s3Destination": {"bucket": settings.bucket}},
            }
        }
    if rollout.signature is not None:
        return _custom(settings, *_read_signature(rollout.signature))
    assert rollout.signing_key is not None
    return _sign(settings, rollout.signing_key, path)


def _sign(settings: Settings, key_path: Path, path: Path) -> dict[str, Any]:
    from broker_bridge.ota.signing import KeyFile, to_pem

    try:
        pem = key_path.read_bytes()
        digest = hashlib.sha256()
        with path.open("rb") as source:
            while data := source.read(_HASHED):
                digest.update(data)
    except OSError as error:
        raise Failure(f"cannot read {error.filename}: {error.strerror}") from None
    try:
        key = KeyFile(pem, _password(pem, key_path))
    except ValueError as error:
        raise Failure(f"{key_path} is no key that can sign: {error}") from None
    kind = key.key.rpartition("-")[2].upper()
    return _custom(settings, key.sign(digest.digest()), kind, to_pem(key.public_key))


def _password(pem: bytes, path: Path) -> bytes | None:
    if b"ENCRYPTED" not in pem:
        return None
    if not sys.stdin.isatty():
        raise Failure(
            f"{path} is encrypted, and there is no terminal to ask for its password: sign elsewhere"
        )
    return getpass.getpass(f"password of {path}: ").encode()


def _read_signature(path: Path) -> tuple[bytes, str]:
    """The signature in the file, and what made it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    try:
        raw = base64.b64decode(b"".join(raw.split()), validate=True)
    except binascii.Error:
        pass
    if not 8 <= len(raw) <= _MAX_SIGNATURE:
        raise Failure(f"{path} holds no signature: {len(raw)} bytes are not within 8 and {_MAX_SIGNATURE}")
    # DER of two numbers on P-256 is a sequence of under 128 bytes that says its own length.
    ecdsa = raw[0] == 0x30 and raw[1] == len(raw) - 2
    if not ecdsa and len(raw) < 256:
        raise Failure(
            f"{path} holds no signature: it is neither ECDSA's in DER nor RSA's of 2048 bits or more"
        )
    return raw, "ECDSA" if ecdsa else "RSA"


def _custom(settings: Settings, signature: bytes, kind: str, public_key: str | None = None) -> dict[str, Any]:
    chain = {"certificateName": settings.rollout.certificate or CERTIFICATE}
    if public_key is not None:
        chain["inlineDocument"] = public_key
    return {
        "customCodeSigning": {
            "signature": {"inlineDocument": signature},
            "certificateChain": chain,
            "hashAlgorithm": "SHA256",
            "signatureAlgorithm": kind,
        }
    }
