"""`codeSigning` of a file of an update: from AWS's shape to what is to be done."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from broker_bridge.ota import signing
from broker_bridge.ota.document import check_text
from broker_bridge.ota.errors import InvalidUpdate
from broker_bridge.ota.signing import Profile
from broker_bridge.ota.update import ByProfile, Given, Signature

MAX_SIGNATURE = 1024
"""Bytes of a signature (our choice): that of an RSA key of 8192 bits."""
MAX_KEY = 31
"""Characters of the document's member for a signature: AWS's OTA SDK has room for as many."""

_WAYS = ("awsSignerJobId", "startSigningJobParameter", "customCodeSigning")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SHA = re.compile(r"sha-(?=[0-9])")


def read(given: Mapping[str, Any], where: str, profiles: Mapping[str, Profile]) -> Given | ByProfile | None:
    """What the file is signed by; None where the operator wants no signature.

    InvalidUpdate, whose message begins with `where`, the member's own name.
    """
    ways = [way for way in _WAYS if given.get(way)]
    if len(ways) > 1:
        raise InvalidUpdate(f"{where}: {' and '.join(ways)}, where one only may be given")
    if not ways:
        return None
    where = f"{where}.{ways[0]}"
    match ways[0]:
        case "customCodeSigning":
            return _custom(given["customCodeSigning"], where)
        case "startSigningJobParameter":
            return _profile(given["startSigningJobParameter"], where, profiles)
    raise InvalidUpdate(
        f"{where}: there is no AWS Signer here; sign by startSigningJobParameter or customCodeSigning"
    )


def _profile(given: Mapping[str, Any], where: str, profiles: Mapping[str, Profile]) -> ByProfile:
    # `destination`, `platform` and `certificateArn` are AWS's own matters: the object is signed where it is,
    # by the key of the profile.
    name = given.get("signingProfileName", "")
    if name not in profiles:
        raise InvalidUpdate(f"{where}.signingProfileName: the setting `signing` has no profile {name[:64]!r}")
    profile = profiles[name]
    path = given.get("signingProfileParameter", {}).get("certificatePathOnDevice")
    if path is None:
        path = profile.certificate_path
    check_text(f"{where}.signingProfileParameter.certificatePathOnDevice", path)
    return ByProfile(profile=name, certificate_path=path)


def _custom(given: Mapping[str, Any], where: str) -> Given:
    chain = given.get("certificateChain", {})
    path = chain.get("certificateName", "")
    # Without it, newer firmware refuses the document.
    check_text(f"{where}.certificateChain.certificateName", path)
    key = _key(given.get("hashAlgorithm", ""), given.get("signatureAlgorithm", ""), where)
    raw = _signature(
        given.get("signature", {}).get("inlineDocument", b""), f"{where}.signature.inlineDocument"
    )
    return Given(
        signature=Signature(key=key, text=base64.b64encode(raw).decode(), certificate_path=path),
        public_key=_public_key(
            chain.get("inlineDocument", ""), key, f"{where}.certificateChain.inlineDocument"
        ),
    )


def _key(hash_name: str, kind: str, where: str) -> str:
    """`sig-sha256-ecdsa` for SHA256 (or SHA-256) and ECDSA. Other names are the firmware's business (AWS)."""
    names = []
    for member, name in (("hashAlgorithm", hash_name), ("signatureAlgorithm", kind)):
        plain = _SHA.sub("sha", name.lower())
        if not _NAME.fullmatch(plain):
            raise InvalidUpdate(f"{where}.{member}: {name[:64]!r} is no name of letters, digits, - and _")
        names.append(plain)
    key = f"sig-{names[0]}-{names[1]}"
    if len(key) > MAX_KEY:
        raise InvalidUpdate(
            f"{where}: {key[:64]!r} is over {MAX_KEY} characters, which devices have room for"
        )
    return key


def _signature(blob: bytes, where: str) -> bytes:
    if not blob:
        raise InvalidUpdate(f"{where}: missing")
    try:
        # The aws command encodes once more what it is given, as AWS's guide has it, in Base64. No signature
        # is Base64 text by itself: of 64 random bytes none is outside its alphabet once in 10^38.
        blob = base64.b64decode(blob.strip(), validate=True)
    except binascii.Error:
        pass
    if not 0 < len(blob) <= MAX_SIGNATURE:
        raise InvalidUpdate(f"{where}: {len(blob)} bytes are not within 1 and {MAX_SIGNATURE}")
    return blob


def _public_key(chain: str, member: str, where: str) -> str | None:
    """PEM of what the signature is to be checked with; None without a certificate."""
    if not chain:
        return None
    try:
        key = signing.public_key(chain)
        signing.check_verifiable(key, member)
    except InvalidUpdate as error:
        raise InvalidUpdate(f"{where}: {error}") from None
    return signing.to_pem(key)
