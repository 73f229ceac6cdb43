"""The service's connection to the broker, for as long as the service runs: connects, and connects again."""

import asyncio
import random
import socket
import ssl
from collections.abc import Sequence
from typing import Final

import structlog

from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.errors import BrokerError, BrokerRefused, BrokerUnreachable
from broker_bridge.mqtt.link import Link, Settled
from broker_bridge.mqtt.packets import V5, V311
from broker_bridge.mqtt.session import Cause, Session
from broker_bridge.mqtt.stats import Stats
from broker_bridge.mqtt.turn import Handler

log = structlog.stdlib.get_logger(__name__)

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for name, TCP and TLS together."""
STEADY: Final = 10.0
"""Seconds a session must have stood for the back-off to begin anew: clients of one id evict each other."""


class Connection:
    """The way from delivery to the broker and back. Everything from one event loop.

    Subscribes to `subscriptions` (filter, QoS 0 or 1) on each connect; the session is clean. Data goes out at
    `data_qos` 0 or 1, control messages at QoS 1. Payloads over `max_payload` bytes are reported, not kept.
    `keep_alive` in seconds, 5–65535. `backoff` is the shortest and the longest wait between attempts in
    seconds, `control_limit` the most control messages queued, `answer_timeout` the seconds for CONNACK and
    for SUBACK (half of it for MQTT 5's CONNECT, which old brokers may leave unanswered).
    """

    def __init__(
        self,
        address: BrokerAddress,
        handler: Handler,
        *,
        subscriptions: Sequence[tuple[str, int]],
        client_id: str,
        tls: ssl.SSLContext | None = None,
        data_qos: int = 0,
        max_payload: int = 65536,
        keep_alive: int = 30,
        backoff: tuple[float, float] = (0.2, 30.0),
        control_limit: int = 1000,
        answer_timeout: float = 10.0,
    ) -> None:
        self.address = address
        self.stats = Stats()
        self._handler = handler
        self._subscriptions = tuple(subscriptions)
        self._client_id = client_id
        self._tls = (tls or ssl.create_default_context()) if address.tls else None
        self._data_qos = data_qos
        self._max_payload = max_payload
        self._keep_alive = keep_alive
        self._backoff = backoff
        self._control_limit = control_limit
        self._answer_timeout = answer_timeout
        self._link: Link | None = None
        self._closing = asyncio.Event()
        self._settled = asyncio.Event()
        self._failure: BrokerError | None = None
        self._ready_at: float | None = None

    async def run(self) -> None:
        """Connects, and connects again with capped exponential back-off and jitter, until `close`."""
        loop = asyncio.get_running_loop()
        shortest, longest = self._backoff
        wait = shortest
        while not self._closing.is_set():
            self._ready_at = None
            failure = await self._attempt()
            if self._closing.is_set():
                break
            if failure is None:
                continue
            if self._ready_at is not None and loop.time() - self._ready_at > STEADY:
                wait = shortest
            self._failure = failure
            self.stats.failures += 1
            self.stats.last_error = str(failure)
            self._settled.set()
            pause = wait * random.uniform(0.5, 1.0)  # noqa: S311
            wait = min(wait * 2, longest)
            log.warning("no connection to the broker", error=str(failure), retry_in=round(pause, 2))
            try:
                await asyncio.wait_for(self._closing.wait(), pause)
            except TimeoutError:
                continue

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        """Returns once every subscription is granted; `run` must be under way, as a task of its own.

        Raises the first attempt's BrokerUnreachable or BrokerRefused, or BrokerUnreachable after `timeout`
        seconds; `run` goes on trying all the same.
        """
        try:
            await asyncio.wait_for(self._settled.wait(), timeout)
        except TimeoutError:
            raise BrokerUnreachable(f"{self.address}: no connection within {timeout:g} s") from None
        if self._failure is not None:
            raise self._failure

    def publish(self, topic: str, payload: bytes, settled: Settled | None = None) -> bool:
        """Queues a control message (`rejected`, `description`), which goes out before data.

        False, and counted, where the queue is full or there is no session: the device will ask again. After
        True, `settled` is told from the event loop what became of it.
        """
        if self._link is not None and self._link.publish(topic, payload, settled):
            return True
        self.stats.control_dropped += 1
        return False

    def wake(self) -> None:
        """`Handler.next_turn` has something to give again."""
        if self._link is not None:
            self._link.wake()

    async def close(self, drain: float = 5.0) -> None:
        """Writes what is queued and what the handler still hands out, then disconnects; `run` ends with it.

        All within `drain` seconds; what is not written by then is dropped. Reading goes on until the end.
        """
        self._closing.set()
        if self._link is not None:
            await self._link.finish(drain)

    async def _attempt(self) -> BrokerError | None:
        """One connection from its beginning to its end. None: try again at once, with MQTT 3.1.1."""
        address, stats = self.address, self.stats
        session = Session(
            version=stats.version,
            client_id=self._client_id,
            subscriptions=self._subscriptions,
            username=address.username,
            password=address.password,
            keep_alive=self._keep_alive,
            max_payload=self._max_payload,
            answer_timeout=self._answer_timeout,
        )
        link = Link(
            session,
            self._handler,
            stats,
            data_qos=self._data_qos,
            control_limit=self._control_limit,
            ready=self._became_ready,
        )
        try:
            await self._open(link)
            self._link = link
            ended = await link.ended
        except OSError as error:  # TLS's errors and time-outs are OSErrors too
            return BrokerUnreachable(f"{address}: {_why(error)}")
        finally:
            self._link = None
            link.abort()
        # "From then on" (DESIGN "Processes"): a broker that once hung up on MQTT 5 is not asked again.
        if ended.cause in (Cause.VERSION, Cause.UNANSWERED) and stats.version == V5:
            log.info("the broker does not take MQTT 5; going on with 3.1.1", reason=ended.text)
            stats.version = V311
            return None
        kind = BrokerRefused if ended.cause is Cause.REFUSED else BrokerUnreachable
        return kind(f"{address}: {ended.text}")

    async def _open(self, link: Link) -> None:
        """TCP and TLS, within CONNECT_TIMEOUT; given up at once when the connection is closed meanwhile."""
        loop = asyncio.get_running_loop()
        opening = loop.create_task(
            loop.create_connection(
                lambda: link,
                self.address.host,
                self.address.port,
                ssl=self._tls,
                server_hostname=self.address.host if self._tls else None,
            )
        )
        closing = loop.create_task(self._closing.wait())
        try:
            await asyncio.wait([opening, closing], timeout=CONNECT_TIMEOUT, return_when="FIRST_COMPLETED")
            if not opening.done():
                raise TimeoutError
            opening.result()
        finally:
            opening.cancel()
            closing.cancel()

    def _became_ready(self) -> None:
        self._ready_at = asyncio.get_running_loop().time()
        self._failure = None
        self._settled.set()
        log.info(
            "connected to the broker",
            broker=str(self.address),
            mqtt="5" if self.stats.version == V5 else "3.1.1",
        )


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the broker's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved ({error.strerror})"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    return error.strerror or str(error)
