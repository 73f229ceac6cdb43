"""One connection to the broker, from its standing to its end: between the socket, the session and delivery.

It never stops reading. It writes while the socket takes more: acknowledgements and pings first, then control
messages, then data, in batches small enough that what comes first waits behind little (DESIGN "Processes").
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import structlog

from broker_bridge.mqtt.packets import encode_publish_start
from broker_bridge.mqtt.session import Cause, Ended, Message, NotTaken, Phase, Ready, Retained, Session
from broker_bridge.mqtt.stats import Stats
from broker_bridge.mqtt.turn import Handler, Turn
from broker_bridge.mqtt.writer import Parts, append_turn

log = structlog.stdlib.get_logger(__name__)

SEND_BUFFER: Final = 128 * 1024
"""SO_SNDBUF: what the kernel holds can no longer be put in order, so it holds little."""
BATCH_BYTES: Final = 64 * 1024
"""Data is collected until there is this much, then written; one turn may go over it."""
BURST_BYTES: Final = 1024 * 1024
"""Written at most before the event loop may read again."""
TURN_MESSAGES: Final = 64
"""Messages asked of delivery at once."""
MAX_ACKNOWLEDGEMENTS: Final = 256 * 1024
"""Bytes of PUBACK kept for a broker that sends and does not read; then the connection is given up."""
LOG_EVERY: Final = 10.0
"""Seconds between two log lines on the same kind of trouble."""


Settled = Callable[[bool], None]
"""Called once for a message: True when the broker has it, or never takes one so long; False when it is lost
with its connection. (At QoS 0, where the broker knows no other: True when it is written.)"""


class Link(asyncio.Protocol):
    """See the module. `ended` is done when the connection is over; `ready` is called when it is of use."""

    def __init__(
        self,
        session: Session,
        handler: Handler,
        stats: Stats,
        *,
        data_qos: int,
        control_limit: int,
        ready: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self.session = session
        self._loop = loop
        self._handler = handler
        self._stats = stats
        self._data_qos = data_qos
        self._control_limit = control_limit
        self._control: deque[tuple[bytes, bytes, Settled | None]] = deque()
        # What waits for its acknowledgement and wants to hear of it, by packet id.
        self._unsettled: dict[int, Settled] = {}
        self._ready = ready
        self._was_ready = False
        self._transport: asyncio.Transport | None = None
        self._tls = False
        self._paused = False
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._result: Ended | None = None
        self._drained: asyncio.Future[None] | None = None
        self._last_logged: dict[str, float] = {}

    # What delivery and the connection ask for

    def publish(self, topic: str, payload: bytes, settled: Settled | None = None) -> bool:
        """Queues a control message; False when the queue is full or the session does not stand."""
        if self.session.phase is not Phase.READY or len(self._control) >= self._control_limit:
            return False
        self._control.append((topic.encode(), payload, settled))
        self.wake()
        return True

    def wake(self) -> None:
        """There is something to write. From the event loop only."""
        if not self._pump_due and not self._paused:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    async def finish(self, drain: float) -> None:
        """Writes what is queued and what delivery still has, says DISCONNECT, and waits for the end.

        All within `drain` seconds; what is not written then is dropped.
        """
        deadline = self._loop.time() + drain
        if self.session.phase is Phase.READY:
            self._drained = self._loop.create_future()
            self.wake()
            over: list[asyncio.Future[Any]] = [self._drained, self.ended]
            await asyncio.wait(over, timeout=drain, return_when="FIRST_COMPLETED")
        if self._transport is not None and not self.session.over:
            self.session.disconnect()
            self._write([self.session.take_output()])
            # The broker closes on DISCONNECT. Were we to close first with something unread, the kernel would
            # send a reset, and that can destroy what the broker has not read yet.
            await asyncio.wait([self.ended], timeout=max(0.2, deadline - self._loop.time()))
        self.abort()
        await asyncio.wait([self.ended], timeout=1)

    def abort(self) -> None:
        """Ends it at once, if it has not ended yet; whatever is unsent is dropped."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("ssl_object") is not None
        # uvloop gives a stand-in for the socket that has no more than this.
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Paused as soon as the kernel takes no more. Not 0: with TLS, 0 is never above nothing.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self.session.connect(self._loop.time())
        self._arm()
        self._pump()

    def data_received(self, data: bytes) -> None:
        stats = self._stats
        stats.bytes_received += len(data)
        for event in self.session.receive(data, self._loop.time()):
            if isinstance(event, Message):
                stats.messages_received += 1
                try:
                    self._handler.received(*event)
                except Exception:
                    # One request that delivery stumbles over must not end the connection that serves all.
                    log.exception("a request could not be handled", topic=event.topic, size=event.size)
            else:
                self._handle(event)
        if self._unsettled:
            self._settle()
        self._pump()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        if self._result is None:
            self._result = self._unannounced(exc)
        self.session.abandon()
        self._stats.control_dropped += len(self._control)
        lost = [*self._unsettled.values(), *(settled for _, _, settled in self._control if settled)]
        self._unsettled.clear()
        self._control.clear()
        for settled in lost:
            settled(False)
        if self._was_ready:
            self._stats.connected = False
            self._handler.disconnected()
        if not self.ended.cancelled():
            self.ended.set_result(self._result)

    def _unannounced(self, exc: Exception | None) -> Ended:
        phase = self.session.phase
        if isinstance(exc, ssl.SSLError):
            return Ended(Cause.TLS, f"TLS: {exc.reason or exc}")
        if phase is Phase.ENDED:
            return Ended(Cause.DISCONNECTED, "closed")
        why = f" ({exc.strerror or exc})" if isinstance(exc, OSError) else ""
        if phase is Phase.CONNECTING:
            return Ended(Cause.UNANSWERED, f"the broker closed the connection without answering CONNECT{why}")
        return Ended(Cause.DISCONNECTED, f"the broker closed the connection{why}")

    # Events and time

    def _handle(self, event: Ready | Retained | NotTaken | Ended) -> None:
        if isinstance(event, Ready):
            self._was_ready = True
            self._stats.connected = True
            self._stats.connects += 1
            self._arm()
            self._ready()
            self._handler.connected()
        elif isinstance(event, Retained):
            self._stats.retained_ignored += 1
        elif isinstance(event, NotTaken):
            self._stats.not_taken += 1
            self._warn("the broker did not take a message", reason=event.reason, total=self._stats.not_taken)
        else:
            self._give_up(event)

    def _give_up(self, result: Ended) -> None:
        self._result = self._result or result
        self.abort()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self.session.deadline(), self._tick)

    def _tick(self) -> None:
        for event in self.session.tick(self._loop.time()):
            self._handle(cast(Ended, event))
        if not self.session.over:
            self._arm()
            self._pump()

    # Writing

    def _pump(self) -> None:
        """Writes until the socket takes no more, there is nothing left, or it is time to read."""
        self._pump_due = False
        written = 0
        while not self._paused and self._transport is not None and not self.session.over:
            if written >= BURST_BYTES:
                self.wake()
                return
            parts, size = self._batch()
            if not parts and not size:
                if self._drained is not None and not self._control and not self._drained.done():
                    self._drained.set_result(None)
                return
            written += size
            self._write(parts)
        if self.session.pending_output > MAX_ACKNOWLEDGEMENTS:
            self._give_up(Ended(Cause.SILENT, "the broker sends but does not read"))

    def _batch(self) -> tuple[Parts, int]:
        """What is to be written next, in the order of its right of way, and the bytes of data in it."""
        session, stats, control = self.session, self._stats, self._control
        parts: Parts = []
        if session.pending_output:
            parts.append(session.take_output())
        ready = session.phase is Phase.READY
        while ready and control and (not session.max_qos or session.control_slots > 0):
            self._append_control(parts, *control.popleft())
        # Of data, the writer knows the size: adding up its many buffers would take longer than all this.
        stats.bytes_written += sum(map(len, parts))
        if not ready:
            return parts, 0
        size = 0
        qos_1 = self._data_qos and session.max_qos
        while size < BATCH_BYTES:
            slots = min(TURN_MESSAGES, session.data_slots) if qos_1 else TURN_MESSAGES
            turn = self._next_turn(slots) if slots > 0 else None
            if turn is None:
                break
            written = append_turn(
                parts, turn, session.version, session.max_packet_size, self._take_id if qos_1 else None
            )
            # A turn of which nothing is written (too large) must neither keep us here nor look like the end.
            size += written.size or BATCH_BYTES
            stats.data_written += written.messages
            stats.bytes_written += written.size
            if written.too_large:
                self._too_large(written.too_large)
        return parts, size

    def _next_turn(self, max_messages: int) -> Turn | None:
        try:
            return self._handler.next_turn(max_messages)
        except Exception:
            log.exception("blocks could not be handed out")
            return None

    def _take_id(self) -> int:
        return self.session.take_packet_id(self._loop.time())

    def _append_control(self, parts: Parts, topic: bytes, payload: bytes, settled: Settled | None) -> None:
        session = self.session
        if 5 + 2 + len(topic) + 3 + len(payload) > session.max_packet_size:
            self._too_large(1)
            if settled is not None:
                settled(True)
            return
        packet_id = self._take_id() if session.max_qos else 0
        if settled is not None:
            if packet_id:
                self._unsettled[packet_id] = settled
            else:
                settled(True)
        parts.append(encode_publish_start(session.version, topic, packet_id, len(payload)))
        parts.append(payload)
        self._stats.control_written += 1

    def _settle(self) -> None:
        """Tells of what was acknowledged. Few ever wait here: the window of a session is small."""
        over = [number for number in self._unsettled if not self.session.waits_for(number)]
        for number in over:
            self._unsettled.pop(number)(True)

    def _too_large(self, messages: int) -> None:
        self._stats.too_large += messages
        self._warn(
            "messages are longer than the broker takes",
            maximum_packet_size=self.session.max_packet_size,
            total=self._stats.too_large,
        )

    def _write(self, parts: Parts) -> None:
        if self._transport is None or not parts:
            return
        if self._tls:
            # Each buffer would become a TLS record of its own.
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    def _warn(self, event: str, **details: object) -> None:
        now = self._loop.time()
        if now - self._last_logged.get(event, -LOG_EVERY) >= LOG_EVERY:
            self._last_logged[event] = now
            log.warning(event, **details)
