"""Reason codes in words (MQTT 5.0, 2.4; MQTT 3.1.1, 3.2.2.3)."""

_CONNACK_311 = {
    1: "unacceptable protocol version",
    2: "client id rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}
_MQTT_5 = {
    0x00: "success",
    0x10: "no matching subscribers",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "unsupported protocol version",
    0x85: "client id not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep-alive timeout",
    0x8E: "session taken over by another client with the same id",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet id in use",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "QoS not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA1: "subscription ids not supported",
    0xA2: "wildcard subscriptions not supported",
}


def describe(reason: int, text: str | None = None) -> str:
    """An MQTT 5 reason code in words, e.g. `not authorized (0x87)`, with the server's own text if any."""
    words = f"{_MQTT_5.get(reason, 'unknown reason')} (0x{reason:02x})"
    # The text is the peer's: bounded and made printable, since it ends in logs and on terminals.
    return f"{words}: {text[:200]!r}" if text else words


def describe_connack_311(code: int) -> str:
    """An MQTT 3.1.1 return code of CONNACK in words."""
    return f"{_CONNACK_311.get(code, 'unknown return code')} (return code {code})"
