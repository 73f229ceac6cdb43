"""One MQTT session of a client, without I/O: bytes and clock readings in, events and bytes out.

The session asks to be connected, subscribes, acknowledges QoS 1 on receipt, keeps the connection alive and
counts what is unacknowledged. It never sends anything itself: `take_output` hands out what is due. Clock
readings are seconds of one monotonic clock. After an event `Ended` it ignores everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from broker_bridge.mqtt import packets, reasons
from broker_bridge.mqtt.framing import Framer
from broker_bridge.mqtt.packets import V5, Publish
from broker_bridge.mqtt.properties import (
    ASSIGNED_CLIENT_ID,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    SERVER_KEEP_ALIVE,
    MalformedPacket,
    Properties,
)

QOS1_WINDOW: Final = 20
"""Most QoS 1 messages unacknowledged (DESIGN "Processes"); Mosquitto drops some beyond its 20 silently."""
CONTROL_RESERVE: Final = 4
"""Places of that window which data leaves free for control messages."""
EARLY_MESSAGES: Final = 1000
"""Messages kept that come before SUBACK, as the standard allows; more are dropped: devices ask again."""


class Phase(Enum):
    """Where a session stands."""

    NEW = "new"
    CONNECTING = "waiting for CONNACK"
    SUBSCRIBING = "waiting for SUBACK"
    READY = "ready"
    ENDED = "ended"


class Cause(Enum):
    """Why a session ended; TLS only its connection can tell."""

    VERSION = "the server does not speak this version of MQTT"
    REFUSED = "the server refused the connection or a subscription"
    DISCONNECTED = "the server ended the session"
    MALFORMED = "the server sent what it must not send"
    SILENT = "the server did not answer in time"
    UNANSWERED = "the server did not answer CONNECT"
    TLS = "TLS failed"


@dataclass(frozen=True, slots=True)
class Ready:
    """Connected, and every subscription granted."""


class Message(NamedTuple):
    """An incoming message. `size` is its true length in bytes; over the bound, `payload` is empty."""

    topic: str
    payload: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Retained:
    """A message that the server had kept. Ignored: it was answered in its time; twice would be duplicates."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The server acknowledged a QoS 1 message of ours with a reason why it will not deliver it (MQTT 5)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: close the connection. `text` says why, for logs and operators."""

    cause: Cause
    text: str


Event = Ready | Message | Retained | NotTaken | Ended


class Session:
    """See the module. `version` is packets.V311 or packets.V5.

    `max_payload` bytes is the longest payload that is kept; `keep_alive` in seconds, 1–65535.
    `answer_timeout` is the bound for CONNACK, and again for SUBACK, in seconds; MQTT 5's CONNECT, which old
    servers may not know how to answer, gets half of it.
    """

    def __init__(
        self,
        *,
        version: int,
        client_id: str,
        subscriptions: Sequence[tuple[str, int]],
        username: str | None = None,
        password: str | None = None,
        keep_alive: int = 30,
        max_payload: int = 65536,
        answer_timeout: float = 10.0,
    ) -> None:
        self.version = version
        self.phase = Phase.NEW
        self.client_id = client_id
        self.window = QOS1_WINDOW
        self.max_packet_size = packets.MAX_REMAINING + 5
        """Longest packet the server takes, bytes with all headers."""
        self.max_qos = 1
        """Highest QoS the server takes, 0 or 1."""
        self._subscriptions = tuple(subscriptions)
        self._credentials = (username, password)
        self._keep_alive = keep_alive
        self._answer_timeout = answer_timeout
        self._framer = Framer(version, max_payload)
        self._output = bytearray()
        # Packet id → when it was sent, oldest first.
        self._unacknowledged: dict[int, float] = {}
        self._last_packet_id = 0
        self._subscribe_id = 0
        self._early: list[Message] = []
        # When to act next: the answer to CONNECT or SUBSCRIBE is due, or in READY a ping.
        self._due = 0.0
        self._pinged_at: float | None = None

    # Out

    def connect(self, now: float) -> None:
        """Begins: CONNECT is due for output."""
        self._output += packets.encode_connect(
            self.version, self.client_id, self._keep_alive, *self._credentials
        )
        self.phase = Phase.CONNECTING
        self._due = now + self._answer_timeout / (2 if self.version == V5 else 1)

    def disconnect(self) -> None:
        """Ends the session in order: DISCONNECT is due for output, and nothing after it."""
        self._output += packets.encode_disconnect(self.version)
        self.phase = Phase.ENDED

    def abandon(self) -> None:
        """The connection is gone, and with it everything unsent and unacknowledged."""
        self.phase = Phase.ENDED
        self._output.clear()
        self._unacknowledged.clear()

    def take_output(self) -> bytes:
        """The bytes to be sent before any other."""
        output = bytes(self._output)
        self._output.clear()
        return output

    @property
    def over(self) -> bool:
        """Whether it has ended, from whichever side."""
        return self.phase is Phase.ENDED

    @property
    def pending_output(self) -> int:
        """Bytes that `take_output` would give."""
        return len(self._output)

    @property
    def control_slots(self) -> int:
        """QoS 1 messages that may be sent now."""
        return self.window - len(self._unacknowledged)

    @property
    def data_slots(self) -> int:
        """QoS 1 data messages that may be sent now: some places stay free for control messages."""
        return self.control_slots - min(CONTROL_RESERVE, self.window // 2)

    @property
    def unacknowledged(self) -> int:
        """QoS 1 messages sent and not acknowledged."""
        return len(self._unacknowledged)

    def waits_for(self, packet_id: int) -> bool:
        """Whether the message of that id is not acknowledged yet."""
        return packet_id in self._unacknowledged

    def take_packet_id(self, now: float) -> int:
        """A packet id for a QoS 1 message that is sent now; only while there are slots."""
        self._last_packet_id = self._free_packet_id()
        self._unacknowledged[self._last_packet_id] = now
        return self._last_packet_id

    # Time

    def deadline(self) -> float:
        """When `tick` wants to be called."""
        if self.phase is not Phase.READY or self._pinged_at is None:
            return self._due
        return self._pinged_at + self._keep_alive / 2

    def tick(self, now: float) -> list[Event]:
        """Keeps the connection alive: a ping at three quarters of the keep-alive, an answer in half of it.

        A server that leaves a QoS 1 message unacknowledged for two keep-alives counts as silent too.
        """
        if self.over or now < self.deadline():
            return []
        if self.phase is Phase.CONNECTING:
            return [self._end(Cause.UNANSWERED, "the broker did not answer CONNECT in time")]
        if self.phase is Phase.SUBSCRIBING:
            return [self._end(Cause.SILENT, "the broker did not answer SUBSCRIBE in time")]
        if self._pinged_at is not None:
            return [self._end(Cause.SILENT, f"a ping was not answered within {self._keep_alive / 2:g} s")]
        oldest = next(iter(self._unacknowledged.values()), now)
        if now - oldest > 2 * self._keep_alive:
            return [self._end(Cause.SILENT, f"a message was not acknowledged within {now - oldest:.0f} s")]
        self._output += packets.PINGREQ
        self._pinged_at = now
        self._due = now + self._keep_alive * 0.75
        return []

    # In

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What `data`, the next bytes from the server, mean: the same events however the stream is cut up."""
        events: list[Event] = []
        if self.over:
            return events
        try:
            for packet in self._framer.feed(data):
                if isinstance(packet, Publish):
                    self._take_publish(packet, events)
                else:
                    self._take_other(packet.kind, packet.body, now, events)
                    if self.over:
                        break
        except MalformedPacket as error:
            events.append(self._end(Cause.MALFORMED, f"malformed packet: {error}"))
        return events

    def _take_publish(self, publish: Publish, events: list[Event]) -> None:
        if self.phase is Phase.CONNECTING:
            raise MalformedPacket("PUBLISH before CONNACK")
        if publish.qos:
            self._output += packets.encode_puback(publish.packet_id)
        if publish.retain:
            events.append(Retained())
            return
        message = Message(publish.topic, publish.payload, publish.size)
        if self.phase is Phase.READY:
            events.append(message)
        elif len(self._early) < EARLY_MESSAGES:
            self._early.append(message)

    def _take_other(self, kind: int, body: bytes, now: float, events: list[Event]) -> None:
        if self.phase is Phase.CONNECTING:
            if kind != packets.CONNACK:
                raise MalformedPacket(f"a packet of type {kind} before CONNACK")
            self._take_connack(body, now, events)
        elif kind == packets.PUBACK:
            puback = packets.parse_puback(self.version, body)
            self._unacknowledged.pop(puback.packet_id, None)
            if puback.reason >= 0x80:
                events.append(NotTaken(reasons.describe(puback.reason, puback.text)))
        elif kind == packets.PINGRESP:
            if body:
                raise MalformedPacket("PINGRESP has a body")
            self._pinged_at = None
        elif kind == packets.SUBACK and self.phase is Phase.SUBSCRIBING:
            self._take_suback(body, now, events)
        elif kind == packets.DISCONNECT:
            disconnect = packets.parse_disconnect(self.version, body)
            text = f"disconnected by the broker: {reasons.describe(disconnect.reason, disconnect.text)}"
            events.append(self._end(Cause.DISCONNECTED, text))
        else:
            raise MalformedPacket(f"a packet of type {kind} that nothing asked for")

    def _take_connack(self, body: bytes, now: float, events: list[Event]) -> None:
        connack = packets.parse_connack(self.version, body)
        if connack.old or (self.version == V5 and connack.reason == 0x84):
            # Whatever an old server says to a CONNECT of MQTT 5, it will say it better to one of its own.
            events.append(self._end(Cause.VERSION, "the broker does not speak MQTT 5"))
        elif connack.reason:
            if self.version == V5:
                text = connack.properties.get(REASON_STRING)
                why = reasons.describe(connack.reason, text if isinstance(text, str) else None)
            else:
                why = reasons.describe_connack_311(connack.reason)
            events.append(self._end(Cause.REFUSED, f"connection refused: {why}"))
        elif connack.session_present:
            raise MalformedPacket("CONNACK resumes a session that was asked to be clean")
        else:
            self._take_limits(connack.properties)
            self._subscribe(now, events)

    def _take_limits(self, properties: Properties) -> None:
        def number(identifier: int, default: int) -> int:
            value = properties.get(identifier, default)
            return value if isinstance(value, int) else default

        self.window = min(QOS1_WINDOW, number(RECEIVE_MAXIMUM, 65535))
        self.max_qos = min(1, number(MAXIMUM_QOS, 1))
        self.max_packet_size = number(MAXIMUM_PACKET_SIZE, self.max_packet_size)
        # 0 turns the server's watch off; ours stays on, since it is how a dead connection is noticed.
        self._keep_alive = min(self._keep_alive, number(SERVER_KEEP_ALIVE, 0) or self._keep_alive)
        assigned = properties.get(ASSIGNED_CLIENT_ID)
        if isinstance(assigned, str):
            self.client_id = assigned

    def _subscribe(self, now: float, events: list[Event]) -> None:
        if not self._subscriptions:
            self._become_ready(now, events)
            return
        self._subscribe_id = self._last_packet_id = self._free_packet_id()
        self._output += packets.encode_subscribe(self.version, self._subscribe_id, self._subscriptions)
        self.phase = Phase.SUBSCRIBING
        self._due = now + self._answer_timeout

    def _take_suback(self, body: bytes, now: float, events: list[Event]) -> None:
        suback = packets.parse_suback(self.version, body)
        if suback.packet_id != self._subscribe_id or len(suback.reasons) != len(self._subscriptions):
            raise MalformedPacket("SUBACK does not match the SUBSCRIBE")
        for (topic_filter, _), reason in zip(self._subscriptions, suback.reasons, strict=True):
            if reason >= 0x80:
                why = reasons.describe(reason, suback.text) if self.version == V5 else "refused (0x80)"
                events.append(self._end(Cause.REFUSED, f"subscription to {topic_filter} refused: {why}"))
                return
        self._become_ready(now, events)

    def _become_ready(self, now: float, events: list[Event]) -> None:
        self.phase = Phase.READY
        self._due = now + self._keep_alive * 0.75
        events.append(Ready())
        events += self._early
        self._early.clear()

    def _free_packet_id(self) -> int:
        packet_id = self._last_packet_id % 0xFFFF + 1
        while packet_id in self._unacknowledged:
            packet_id = packet_id % 0xFFFF + 1
        return packet_id

    def _end(self, cause: Cause, text: str) -> Ended:
        self.phase = Phase.ENDED
        self._early.clear()
        return Ended(cause, text)
