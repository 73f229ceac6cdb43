"""`codeSigning`: what is taken from it, and what is refused with the member that is wrong."""

import base64
from typing import Any

import pytest

from broker_bridge.ota.code_signing import read
from broker_bridge.ota.errors import InvalidUpdate
from broker_bridge.ota.update import ByProfile, Given, Signature
from tests.ota.making import certificate_pem, private_key, profiles, public_pem

RAW = b"\x30\x45\x02\xff" + bytes(68)
PROFILES = profiles("ecdsa")


def custom(**other: Any) -> dict[str, Any]:
    return {
        "customCodeSigning": {
            "signature": {"inlineDocument": RAW},
            "certificateChain": {"certificateName": "/certs/signer.pem"},
            "hashAlgorithm": "SHA256",
            "signatureAlgorithm": "ECDSA",
            **other,
        }
    }


def by_profile(**other: Any) -> dict[str, Any]:
    return {"startSigningJobParameter": {"signingProfileName": "ecdsa", **other}}


def taken(given: dict[str, Any]) -> Given | ByProfile | None:
    return read(given, "files[0].codeSigning", PROFILES)


@pytest.mark.parametrize(
    ("hashing", "kind", "key"),
    [
        ("SHA256", "ECDSA", "sig-sha256-ecdsa"),
        ("SHA-256", "RSA", "sig-sha256-rsa"),
        ("sha1", "rsa", "sig-sha1-rsa"),
        ("SHA3-256", "ED25519", "sig-sha3-256-ed25519"),
    ],
)
def test_a_given_signature(hashing: str, kind: str, key: str) -> None:
    assert taken(custom(hashAlgorithm=hashing, signatureAlgorithm=kind)) == Given(
        signature=Signature(
            key=key, text=base64.b64encode(RAW).decode(), certificate_path="/certs/signer.pem"
        )
    )


def test_a_signature_that_was_encoded_once_more() -> None:
    # `base64 -w0` made text of it, and the aws command encodes what it is given.
    for text in (base64.b64encode(RAW), base64.b64encode(RAW) + b"\n"):
        assert taken(custom(signature={"inlineDocument": text})) == taken(custom())


@pytest.mark.parametrize("form", [certificate_pem("ecdsa"), public_pem(private_key("ecdsa"))])
def test_a_certificate_with_it_is_what_it_is_checked_by(form: str) -> None:
    found = taken(custom(certificateChain={"certificateName": "c", "inlineDocument": form}))
    assert isinstance(found, Given)
    assert found.public_key == public_pem(private_key("ecdsa"))


def test_a_profile() -> None:
    assert taken(by_profile()) == ByProfile(profile="ecdsa", certificate_path="/ecdsa.pem")
    # What AWS's guide gives with it: where the signed object would go, and what ACM and Signer need.
    more = {
        "certificateArn": "arn:aws:acm:r:1:certificate/x",
        "platform": "p",
        "certificatePathOnDevice": "/o",
    }
    destination = {"s3Destination": {"bucket": "b"}}
    found = taken(by_profile(signingProfileParameter=more, destination=destination))
    assert found == ByProfile(profile="ecdsa", certificate_path="/o")


@pytest.mark.parametrize("given", [{}, {"customCodeSigning": {}}])
def test_no_signature(given: dict[str, Any]) -> None:
    assert taken(given) is None


CUSTOM = "files[0].codeSigning.customCodeSigning"
PROFILE = "files[0].codeSigning.startSigningJobParameter"
NAMED = {"certificateName": "c"}


@pytest.mark.parametrize(
    ("given", "where", "words"),
    [
        ({"awsSignerJobId": "x"}, "files[0].codeSigning.awsSignerJobId", "no AWS Signer"),
        (custom() | by_profile(), "files[0].codeSigning", "one only"),
        (by_profile(signingProfileName="x"), f"{PROFILE}.signingProfileName", "no profile 'x'"),
        (
            by_profile(signingProfileParameter={"certificatePathOnDevice": ""}),
            f"{PROFILE}.signingProfileParameter.certificatePathOnDevice",
            "empty",
        ),
        (custom(certificateChain={}), f"{CUSTOM}.certificateChain.certificateName", "empty"),
        (
            custom(certificateChain={"certificateName": 'a"b'}),
            f"{CUSTOM}.certificateChain.certificateName",
            "unescape nothing",
        ),
        (custom(hashAlgorithm=""), f"{CUSTOM}.hashAlgorithm", "no name"),
        (custom(hashAlgorithm="sha 256"), f"{CUSTOM}.hashAlgorithm", "no name"),
        (custom(signatureAlgorithm="é"), f"{CUSTOM}.signatureAlgorithm", "no name"),
        (custom(signatureAlgorithm="x" * 21), CUSTOM, "31 characters"),
        (custom(signature={}), f"{CUSTOM}.signature.inlineDocument", "missing"),
        (custom(signature={"inlineDocument": b" "}), f"{CUSTOM}.signature.inlineDocument", "0 bytes"),
        (
            custom(signature={"inlineDocument": b"\xff" * 1025}),
            f"{CUSTOM}.signature.inlineDocument",
            "1025 bytes are not within 1 and 1024",
        ),
        (
            custom(certificateChain={**NAMED, "inlineDocument": "-----x"}),
            f"{CUSTOM}.certificateChain.inlineDocument",
            "no certificate",
        ),
        (
            custom(certificateChain={**NAMED, "inlineDocument": certificate_pem("rsa")}),
            f"{CUSTOM}.certificateChain.inlineDocument",
            "another kind",
        ),
        (
            custom(
                signatureAlgorithm="ed25519",
                certificateChain={**NAMED, "inlineDocument": certificate_pem("ecdsa")},
            ),
            f"{CUSTOM}.certificateChain.inlineDocument",
            "leave the certificate out",
        ),
    ],
)
def test_what_is_refused(given: dict[str, Any], where: str, words: str) -> None:
    with pytest.raises(InvalidUpdate) as caught:
        taken(given)
    assert str(caught.value).startswith(f"{where}: ")
    assert words in str(caught.value)
