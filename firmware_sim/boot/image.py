"""A firmware image: header, payload, SHA-256 of both, and an ECDSA P-256 signature over that.

The image is the file that is delivered, from the first byte of a slot:

    magic "SLFW", version, security counter, bytes of payload | payload | SHA-256 | length, signature (DER)

with unsigned integers of 32 bits (the length: 16), most significant byte first.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

_HEADER = struct.Struct(">4sIII")
_MAGIC = b"SLFW"
_LONGEST_SIGNATURE = 72  # of P-256 in DER: two integers of at most 33 bytes, and their heads
_READ = 4096  # bytes at a time

MAX_NUMBER = 2**32 - 1


class ImageError(Exception):
    """What is there must not be booted."""


class NoImage(ImageError):
    """There is none, or it was cut off: its sizes do not fit where it lies."""


class DigestMismatch(ImageError):
    """The bytes are not those that were signed: torn, or rotten."""


class BadSignature(ImageError):
    """Whole, but not signed with the key that this device trusts."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a verified image says of itself; `size` is of all of it, in bytes."""

    version: int
    security: int
    size: int
    digest: bytes


def build(payload: bytes, *, version: int, security: int, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signed image. ValueError where a number does not fit 32 bits, or the key is not of P-256."""
    for name, value in (("version", version), ("security counter", security), ("payload", len(payload))):
        if not 0 <= value <= MAX_NUMBER:
            raise ValueError(f"{name} {value} is not within 0 to {MAX_NUMBER}")
    if key.curve.name != "secp256r1":
        raise ValueError(f"the key is of curve {key.curve.name}; it must be secp256r1 (P-256)")
    body = _HEADER.pack(_MAGIC, version, security, len(payload)) + payload
    digest = sha256(body).digest()
    # Deterministic (RFC 6979): the same image is the same bytes in every run.
    signature = key.sign(digest, ec.ECDSA(Prehashed(SHA256()), deterministic_signing=True))
    return body + digest + struct.pack(">H", len(signature)) + signature


def verify(read: Callable[[int, int], bytes], size: int, key: ec.EllipticCurvePublicKey) -> Image:
    """The image that `read(offset, length)` gives the bytes of, within `size` bytes. Raises ImageError."""
    if size < _HEADER.size:
        raise NoImage(f"{size} bytes hold no header of {_HEADER.size}")
    magic, version, security, payload = _HEADER.unpack(read(0, _HEADER.size))
    if magic != _MAGIC:
        raise NoImage(f"it begins with {magic.hex()}, not with {_MAGIC.hex()}")
    end = _HEADER.size + payload
    if end + 32 + 2 > size:
        raise NoImage(f"a payload of {payload} bytes does not fit {size} bytes")
    hashed = sha256()
    for offset in range(0, end, _READ):
        hashed.update(read(offset, min(_READ, end - offset)))
    digest = read(end, 32)
    if hashed.digest() != digest:
        raise DigestMismatch(f"SHA-256 is {hashed.hexdigest()}, the image says {digest.hex()}")
    (length,) = struct.unpack(">H", read(end + 32, 2))
    if not 0 < length <= min(_LONGEST_SIGNATURE, size - end - 34):
        raise NoImage(f"a signature of {length} bytes is not within 1 to {_LONGEST_SIGNATURE}, or cut off")
    try:
        key.verify(read(end + 34, length), digest, ec.ECDSA(Prehashed(SHA256())))
    except InvalidSignature:
        raise BadSignature(f"version {version} is not signed with the device's key") from None
    return Image(version, security, end + 34 + length, digest)
