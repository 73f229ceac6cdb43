"""Verification of ECDSA signatures on P-256 (FIPS 186-5, SEC 1), in integers alone: runs on MicroPython.

For a device without a crypto library of its own. Everything it handles is public, so it need not take the
same time for all inputs. Devices on CPython have the `cryptography` package; tests hold this against it.
"""

from binascii import a2b_base64

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
# SubjectPublicKeyInfo (RFC 5480) of an uncompressed point on P-256, up to the point.
_INFO = b"\x30\x59\x30\x13\x06\x07*\x86H\xce=\x02\x01\x06\x08*\x86H\xce=\x03\x01\x07\x03B\x00"


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether `signature` over the SHA-256 `digest` (32 bytes) was made with the key's private half.

    `public_key`: uncompressed point (65 bytes), SubjectPublicKeyInfo in DER, or that in PEM; ValueError for
    anything else, a point that is not on the curve, or a digest of another length. `signature`: strict DER
    (RFC 3279), as `openssl dgst -sign` makes it; False for whatever is not.
    """
    q = _point(public_key)
    if len(digest) != 32:
        raise ValueError(f"digest of {len(digest)} bytes, not of SHA-256's 32")
    pair = _integers(signature)
    if pair is None:
        return False
    r, s = pair
    w = _inverse(s, _N)
    x, _, z = _sum_of_multiples(int.from_bytes(digest, "big") * w % _N, r * w % _N, q)
    if not z:
        return False
    # x / z**2 modulo p, taken modulo n, is r: compared without another inversion.
    square = z * z % _P
    return r * square % _P == x or (r + _N < _P and (r + _N) * square % _P == x)


def _point(key: bytes) -> "tuple[int, int]":
    if key.startswith(b"-----"):
        lines = key.split(b"-----")
        if len(lines) != 5 or lines[1] != b"BEGIN PUBLIC KEY" or lines[3] != b"END PUBLIC KEY":
            raise ValueError("PEM is not one PUBLIC KEY")
        key = a2b_base64(lines[2])
    raw = key[len(_INFO) :] if key.startswith(_INFO) else key
    if len(raw) != 65 or raw[0] != 4:
        raise ValueError(f"public key of {len(key)} bytes is no uncompressed point on P-256")
    x, y = int.from_bytes(raw[1:33], "big"), int.from_bytes(raw[33:], "big")
    if x >= _P or y >= _P or (y * y - (x * x - 3) * x - _B) % _P:
        raise ValueError("public key is no point on P-256")
    return x, y


def _integers(der: bytes) -> "tuple[int, int] | None":
    # SEQUENCE of two INTEGERs within 1 to n - 1, each in its shortest form. Both always have short lengths.
    if len(der) < 8 or der[0] != 0x30 or der[1] != len(der) - 2:
        return None
    numbers = []
    at = 2
    for _ in range(2):
        if at + 2 > len(der) or der[at] != 2:
            return None
        start, at = at + 2, at + 2 + der[at + 1]
        digits = der[start:at]
        if at > len(der) or not 1 <= len(digits) <= 33 or digits[0] > 127:
            return None
        number = int.from_bytes(digits, "big")
        if not 0 < number < _N or (digits[0] == 0 and digits[1] < 128):
            return None
        numbers.append(number)
    return (numbers[0], numbers[1]) if at == len(der) else None


def _inverse(value: int, modulus: int) -> int:
    # Extended Euclid: three-argument `pow` is not in every build, and slower.
    low, high = value, modulus
    x, y = 1, 0
    while low:
        quotient = high // low
        high, low = low, high - quotient * low
        y, x = x, y - quotient * x
    return y % modulus


def _sum_of_multiples(u: int, v: int, q: "tuple[int, int]") -> "tuple[int, int, int]":
    # u*G + v*Q in Jacobian coordinates (z = 0: infinity), both at once: 256 doublings (Shamir's trick).
    both = _affine(_add((_G[0], _G[1], 1), q))
    total = (1, 1, 0)
    us, vs = u.to_bytes(32, "big"), v.to_bytes(32, "big")
    for at in range(32):
        for bit in (7, 6, 5, 4, 3, 2, 1, 0):
            total = _double(total)
            of_g, of_q = us[at] >> bit & 1, vs[at] >> bit & 1
            point = both if of_g and of_q else _G if of_g else q if of_q else None
            if point:
                total = _add(total, point)
    return total


def _affine(point: "tuple[int, int, int]") -> "tuple[int, int] | None":
    x, y, z = point
    if not z:
        return None
    inverse = _inverse(z, _P)
    square = inverse * inverse % _P
    return x * square % _P, y * square * inverse % _P


def _double(point: "tuple[int, int, int]") -> "tuple[int, int, int]":
    x, y, z = point
    yy = y * y % _P
    zz = z * z % _P
    s = 4 * x * yy % _P
    m = 3 * (x - zz) * (x + zz) % _P  # the curve's a is -3
    nx = (m * m - 2 * s) % _P
    return nx, (m * (s - nx) - 8 * yy * yy) % _P, 2 * y * z % _P


def _add(point: "tuple[int, int, int]", other: "tuple[int, int]") -> "tuple[int, int, int]":
    x, y, z = point
    if not z:
        return other[0], other[1], 1
    zz = z * z % _P
    h = (other[0] * zz - x) % _P
    r = (other[1] * zz * z - y) % _P
    if not h:
        return (1, 1, 0) if r else _double(point)
    hh = h * h % _P
    hhh = hh * h % _P
    v = x * hh % _P
    nx = (r * r - hhh - 2 * v) % _P
    return nx, (r * (v - nx) - y * hhh) % _P, z * h % _P
