"""A device's MQTT 3.1.1 session without I/O: bytes in, messages and bytes out. Runs on MicroPython.

Whoever owns the socket does this, times in integer milliseconds that do not go back:

    session.begin(now)               when a new connection stands
    session.filled(count, now)       when `count` bytes were read into `session.room()`
    session.message()                then, until it is None: (topic, payload) of each message that is whole,
                                     and (TOO_LONG + topic, the buffer's size as text) of one that never is
    session.poll(now)                at `session.deadline`
    session.take(now)                after each of these and of `publish`: bytes to send, if any

`up` says that the broker has granted all topics. A payload is a view of the one buffer there is, valid until
the next `room`. BrokerUnreachable and SubscriptionRefused come out of `message` and `poll`; after them only
`begin` is of use.
"""

from device_client.errors import DownloadError

TOO_LONG = "#"
"""What stands before the topic of a message that the buffer cannot hold: no topic of a message has it."""

_REFUSALS = (
    "protocol version",
    "client id",
    "Server unavailable",
    "Bad user name or password",
    "Not authorized",
)


class BrokerUnreachable(DownloadError):
    """No MQTT session: name, address, TLS, refused by the broker (password, client id), or it fell silent."""


class SubscriptionRefused(DownloadError):
    """The broker's access rules do not let this client hear the stream's answers."""


class Session:
    """One clean session, subscribed to `topics` at QoS 0; of wildcards, `+` may stand for a level.

    What is lost is asked for again, and a PUBACK for each block would cost more. `buffer`: what is read into,
    and so the bound on a message: block size + 200 bytes do for CBOR, more make fewer reads. A longer message
    is left out as it streams in, counted in `oversize`, and its topic told where the buffer can hold that.
    `keepalive`: 2 to 65535 seconds, else ValueError;
    after half of it without a byte from the broker it is asked for one, after all of it it counts as gone;
    a session that does not stand within it counts as refused.
    """

    def __init__(
        self,
        client_id: str,
        topics: "list[str]",
        buffer: bytearray,
        user: str = "",
        password: str = "",
        keepalive: int = 30,
    ) -> None:
        if not 2 <= keepalive <= 65535:
            raise ValueError(f"keepalive {keepalive} is not within 2 to 65535 seconds")
        self.oversize = 0
        self._login, self.keepalive = (client_id, user, password), keepalive
        self._topics, self._raw = topics, [name.encode() for name in topics]
        self._filters = [name.split("/") for name in topics if "+" in name]
        self._matched_raw, self._matched = b"", ""  # the last topic that a filter let through
        self._buffer, self._view = buffer, memoryview(buffer)
        self.begin(0)

    def begin(self, now: int) -> None:
        """A new connection stands: what was of the one before is forgotten, and CONNECT is to be sent."""
        self.up = self._asked = False
        self._start = self._end = 0  # what was read and not handed out
        self._need = 5  # bytes of the message at `_start`, as far as they are known
        self._skip = 0  # bytes of a message that is too long, still to come
        self._heard = self._sent = now
        client_id, user, password = self._login
        head = b"\x00\x04MQTT\x04" + bytes((0xC2 if user else 2, self.keepalive >> 8, self.keepalive & 255))
        login = _text(user) + _text(password) if user else b""
        self._out = [_packet(0x10, head + _text(client_id) + login)]

    def publish(self, topic: str, payload: "bytes | bytearray") -> None:
        """A message to be sent at QoS 0; dropped unless `up`."""
        if self.up:
            self._out.append(_packet(0x30, _text(topic) + payload))

    def take(self, now: int) -> bytes:
        """What is to be sent, in full and at once; empty where there is nothing."""
        out = self._out
        if not out:
            return b""
        self._sent = now
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def room(self) -> memoryview:
        """Where the next bytes go, never empty. Ends the life of payloads handed out before."""
        start, end = self._start, self._end
        if self._skip:
            return self._view[: self._skip]
        if start == end:
            self._start = self._end = 0
        elif start and start + self._need > len(self._buffer):
            self._view[: end - start] = self._view[start:end]
            self._start, self._end = 0, end - start
        return self._view[self._end :]

    def filled(self, count: int, now: int) -> None:
        """The first `count` bytes of `room()` have come."""
        if self.up:  # a session that does not stand in time never will, whatever comes
            self._heard, self._asked = now, False
        if self._skip:
            self._skip -= count
        else:
            self._end += count

    def message(self) -> "tuple[str, memoryview] | None":
        """The next message, or None until more is read; of one that is too long, what the module says."""
        buffer, end = self._buffer, self._end
        while True:
            start = at = self._start
            self._need = 5
            length = shift = 0
            more = 128
            while more:  # the remaining length: seven bits a byte, the lowest first
                at += 1
                if at >= end:
                    return None
                if shift > 21:
                    raise BrokerUnreachable("the broker sends what is not MQTT")
                more = buffer[at] & 128
                length |= (buffer[at] & 127) << shift
                shift += 7
            at += 1
            stop = at + length
            kind = buffer[start]
            if stop > end:
                self._need = stop - start
                return self._too_long(at, stop) if self._need > len(buffer) else None
            self._start = stop
            if kind >> 4 != 3:
                self._control(kind, at, length)
                continue
            if length < 2:
                raise BrokerUnreachable("the broker sends what is not MQTT")
            name = at + 2
            at = name + (buffer[at] << 8 | buffer[at + 1])
            body = at
            if kind & 6:
                body += 2
                if kind & 6 == 2 and body <= stop:
                    self._out.append(b"\x40\x02" + bytes(self._view[at:body]))
            if body > stop or kind & 4:
                raise BrokerUnreachable("the broker sends what is not MQTT, or at QoS 2")
            topic = self._topic(self._view[name:at])
            if topic is not None:
                return topic, self._view[body:stop]
            # Not ours: a broker's own notice, or what an access rule should have kept away.

    def _too_long(self, at: int, stop: int) -> "tuple[str, memoryview] | None":
        # Left out, but for its topic, which is waited for where there is room for it.
        buffer, start, end = self._buffer, self._start, self._end
        name = body = at + 2
        if name <= end:
            body += buffer[at] << 8 | buffer[at + 1]
        if end < body <= min(stop, start + len(buffer)):
            return None
        publish = buffer[start] >> 4 == 3
        topic = self._topic(self._view[name:body]) if publish and body <= end else None
        self.oversize += 1
        self._skip, self._start, self._end = stop - end, 0, 0
        return None if topic is None else (TOO_LONG + topic, memoryview(str(len(buffer)).encode()))

    def _topic(self, topic: memoryview) -> "str | None":
        for place, raw in enumerate(self._raw):
            if topic == raw:
                return self._topics[place]
        if self._filters and (topic == self._matched_raw or self._matches(bytes(topic))):
            return self._matched
        return None

    def _matches(self, raw: bytes) -> bool:
        try:
            name = str(raw, "utf-8")
        except UnicodeError:
            raise BrokerUnreachable("the broker sends what is not MQTT") from None
        levels = name.split("/")
        for wanted in self._filters:
            if len(wanted) == len(levels):
                differ = [one for one, level in zip(wanted, levels) if one not in ("+", level)]  # noqa: B905
                if not differ:
                    self._matched_raw, self._matched = raw, name
                    return True
        return False

    def _control(self, kind: int, at: int, length: int) -> None:
        buffer = self._buffer
        if kind == 0x20 and length == 2:
            code = buffer[at + 1]
            if code:
                why = _REFUSALS[code - 1] if code <= len(_REFUSALS) else str(code)
                raise BrokerUnreachable("the broker refused the connection: " + why)
            self._out.append(
                _packet(0x82, b"\x00\x01" + b"".join([_text(name) + b"\x00" for name in self._topics]))
            )
        elif kind == 0x90 and length == 2 + len(self._topics):
            refused = [name for i, name in enumerate(self._topics) if buffer[at + 2 + i] > 2]
            if refused:
                raise SubscriptionRefused("the broker does not grant " + ", ".join(refused))
            self.up = True
        elif kind != 0xD0:
            raise BrokerUnreachable(f"the broker sends what is not MQTT, or not for a client: {kind}")

    @property
    def deadline(self) -> int:
        """When `poll` has something to do though nothing happens."""
        half = self.keepalive * 500
        if not self.up or self._asked:
            return self._heard + 2 * half
        return min(self._heard, self._sent) + half

    def poll(self, now: int) -> None:
        """Asks a broker that is silent for a sign of life. BrokerUnreachable where it gave none."""
        if now < self.deadline:
            return
        if not self.up or self._asked:
            raise BrokerUnreachable(f"no answer within {(now - self._heard) // 1000} s")
        self._asked = True
        self._out.append(b"\xc0\x00")


def _text(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw) >> 8, len(raw) & 255)) + raw


def _packet(kind: int, body: bytes) -> bytes:
    head = bytes((kind,))
    length = len(body)
    while length > 127:
        head += bytes((length & 127 | 128,))
        length >>= 7
    return head + bytes((length,)) + body
