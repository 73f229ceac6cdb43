"""The room's door: a client of the broker that answers devices, tells them of jobs, and runs the engine.

received ─▶ requests: decode ─▶ desk: one transaction for all that wait ─▶ messages ─▶ published
registry.job_changes ─▶ announcer (notify-next, notify), events, engine
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from broker_bridge.counting import Counts
from broker_bridge.delivery.answers import MAX_TOPIC
from broker_bridge.delivery.patterns import any_of
from broker_bridge.job_topics import messages, topics
from broker_bridge.job_topics.announcer import Announcer
from broker_bridge.job_topics.desk import Desk, Outcome
from broker_bridge.job_topics.engine import RunningEngine
from broker_bridge.job_topics.errors import Code, Refusal
from broker_bridge.job_topics.events import Events
from broker_bridge.job_topics.requests import MAX_PAYLOAD, Request, decode
from broker_bridge.job_topics.sending import Sender
from broker_bridge.job_topics.topics import SUBSCRIPTIONS
from broker_bridge.jobs.engine import Engine
from broker_bridge.jobs.events import EngineDue, Event, ExecutionEvent, JobEvent
from broker_bridge.jobs.showing import Render
from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.turn import Turn
from broker_bridge.opening import tls_to
from broker_bridge.registry.jobs.devices import NEXT
from broker_bridge.registry.registry import Registry
from broker_bridge.settings import ServiceSettings

log = structlog.get_logger("jobs")

DRAIN_SECONDS = 5.0
"""How long a stop may take to write what was answered."""

_Message = tuple[str, bytes]


class JobTopics:
    """Jobs over MQTT, from `start` to `close`. Belongs to one event loop; a `mqtt.turn.Handler`.

    There is one of it in a service, in the process that writes the registry, however many workers answer
    requests for streams.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        address: BrokerAddress,
        registry: Registry,
        *,
        render: Render,
        clock: Callable[[], datetime],
    ) -> None:
        """`registry` stays the caller's. ValueError for TLS files that are none."""
        self._loop = asyncio.get_running_loop()
        self._registry = registry
        self._render = render
        self._clock = clock
        self._connect_timeout = settings.broker.connect_timeout
        self._on_notify = any_of(settings.jobs.answer_next_on_notify)
        self._tells_events = settings.jobs.events
        self._connection = Connection(
            address,
            self,
            subscriptions=SUBSCRIPTIONS,
            client_id=f"{settings.broker.client_id}-jobs-{secrets.token_hex(4)}",
            tls=tls_to(address, settings.broker),
            max_payload=MAX_PAYLOAD,
            keep_alive=settings.broker.keep_alive,
        )
        sender = Sender(self._connection.publish)
        self._desk = Desk(registry.device_jobs, clock, self._answered)
        self._announcer = Announcer(
            registry, sender, clock=clock, render=render, per_second=settings.jobs.notices_per_second
        )
        self._events = Events(
            sender,
            clock=clock,
            arn=lambda kind, name: f"arn:aws:iot:{settings.region}:{settings.account}:{kind}/{name}",
        )
        self._engine = RunningEngine(Engine(registry.jobs, registry.job_steps), registry.jobs, clock)
        self._requests: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._dropped_answers = 0
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Connects, and connects again for as long as it takes; begins with the engine."""
        self._registry.job_changes.on_change(self._happened)
        self._registry.on_things_change(self._engine.follow)
        self._desk.start()
        self._engine.start()
        self._running = [
            asyncio.ensure_future(running)
            for running in (self._connection.run(), self._announcer.run(), self._events.run())
        ]

    async def ready(self) -> None:
        """Waits for the first connection. BrokerUnreachable, BrokerRefused."""
        await self._connection.wait_ready(self._connect_timeout)

    def counts(self) -> Counts:
        """What was counted since the start."""
        return {
            **{f"sluice_job_requests {verb}": number for verb, number in self._requests.items()},
            **{f"sluice_job_rejections {code}": number for code, number in self._refusals.items()},
            "sluice_dropped job-answer": self._dropped_answers,
            "sluice_dropped job-event": self._events.dropped,
            "sluice_job_notices": self._announcer.told,
            "sluice_job_events": self._events.sent,
            "sluice_job_requests_waiting": self._desk.waiting,
            "sluice_jobs_connected": int(self._connection.stats.connected),
        }

    def health(self) -> tuple[bool, str]:
        """Whether devices can be told of their jobs now; `connected`, or what keeps them from it."""
        stats = self._connection.stats
        return stats.connected, "connected" if stats.connected else stats.last_error

    async def close(self) -> None:
        """Handles the requests that wait, writes their answers, and ends; the outbox keeps what is untold."""
        await self._loop.run_in_executor(None, self._engine.close)
        await self._loop.run_in_executor(None, self._desk.close)
        await self._connection.close(DRAIN_SECONDS)
        for task in self._running[1:]:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._announcer.close()

    # mqtt.turn.Handler

    def connected(self) -> None:
        """Requests can arrive, and things be told."""
        log.info("listening for requests of jobs")
        self._announcer.connected(True)

    def disconnected(self) -> None:
        """Answers that were not written are lost: devices ask again. Notices stay in the outbox."""
        self._announcer.connected(False)

    def received(self, topic: str, payload: bytes, size: int) -> None:
        """A request."""
        address = topics.split(topic)
        if address is None:
            return
        self._requests[address.verb] += 1
        try:
            self._desk.take(decode(address, payload, size))
        except Refusal as refused:
            self._refusals[refused.code] += 1
            self._publish([(f"{topic}/rejected", messages.rejected(refused, self._clock()))])

    def next_turn(self, max_messages: int) -> Turn | None:
        """Blocks are the workers' affair."""
        return None

    # From the threads of the desk and of whoever changes the registry

    def _answered(self, answers: Sequence[tuple[Request, Outcome]], now: datetime) -> None:
        refusals: list[Code] = []
        written: list[_Message] = []
        for asked, outcome in answers:
            try:
                written += self._written(asked, outcome, now)
            except Exception:
                log.exception("a document could not be made for a device", topic=asked.address.topic)
                outcome = Refusal(Code.INTERNAL_ERROR, "the job document could not be made", asked.token)
                written += self._written(asked, outcome, now)
            if isinstance(outcome, Refusal):
                refusals.append(outcome.code)
        self._loop.call_soon_threadsafe(self._publish, written)
        if refusals:
            self._loop.call_soon_threadsafe(self._refusals.update, refusals)

    def _written(self, asked: Request, outcome: Outcome, now: datetime) -> list[_Message]:
        topic = asked.address.topic
        if isinstance(outcome, Refusal):
            return [(f"{topic}/rejected", messages.rejected(outcome, now))]
        answer = messages.accepted(asked, outcome, now, self._render)
        written = [(f"{topic}/accepted", answer)]
        if asked.address.job_id == NEXT and self._on_notify.match(asked.address.thing):
            # For firmware that was made to get this answer unasked, and hears it on no other topic.
            written.append((topics.notify_next(asked.address.thing), answer))
        return written

    def _happened(self, events: Sequence[Event]) -> None:
        due = min((event.at for event in events if isinstance(event, EngineDue)), default=None)
        if due is not None:
            self._engine.wake(due)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._heard, events)

    # In the event loop

    def _heard(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, JobEvent | ExecutionEvent):
                if self._tells_events:
                    self._events.add(event)
            elif not isinstance(event, EngineDue):
                self._announcer.wake()

    def _publish(self, written: Sequence[_Message]) -> None:
        for topic, payload in written:
            # `rejected` is longer than nothing: what came on the longest of topics cannot be answered.
            fits = len(topic.encode()) <= MAX_TOPIC
            if not fits or not self._connection.publish(topic, payload):
                self._dropped_answers += 1
