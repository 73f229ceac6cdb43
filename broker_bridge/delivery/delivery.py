"""The room's door: what the connection talks to.

received ─▶ intake: decode, plan ─▶ scheduler ─▶ turns ─▶ next_turn
"""

from collections.abc import Callable

import structlog

from broker_bridge.delivery.answers import Answers, Publisher
from broker_bridge.delivery.catalog import Catalog
from broker_bridge.delivery.intake import Intake
from broker_bridge.delivery.pacing import Paces
from broker_bridge.delivery.permissions import Permissions
from broker_bridge.delivery.scheduler import Scheduler
from broker_bridge.delivery.stats import DeliveryStats
from broker_bridge.delivery.turns import Turns
from broker_bridge.settings import ServiceSettings
from broker_bridge.storage.cache import RangeCache

log = structlog.get_logger("delivery")

SUBSCRIPTIONS = (("$aws/things/+/streams/+/get/+", 1), ("$aws/things/+/streams/+/describe/+", 1))
"""What the service listens to, and at which QoS: no wider, or its own blocks would come back to it."""

MOST_LOADED = 32 * 1024 * 1024
"""Bytes of ranges that were read and wait to be written, beside the cache and no more than half of it."""


class Delivery:
    """Answers devices; a `broker_bridge.mqtt.turn.Handler`. Belongs to one event loop."""

    def __init__(
        self,
        settings: ServiceSettings,
        catalog: Catalog,
        cache: RangeCache,
        *,
        mine: Callable[[str], bool] | None = None,
    ) -> None:
        """`mine`: whether a thing is answered here, where there are several of us; None: all are."""
        self.stats = DeliveryStats()
        self.scheduler = Scheduler(
            hold=settings.broker.hold,
            hold_bytes=settings.broker.hold_bytes,
            bytes_per_second=settings.broker.bytes_per_second,
        )
        self._mine = mine
        self._catalog = catalog
        self._answers = Answers(self.stats)
        self._intake = Intake(
            catalog=catalog,
            scheduler=self.scheduler,
            permissions=Permissions(settings.permissions),
            paces=Paces(settings.pace),
            limits=settings.limits,
            answers=self._answers,
            stats=self.stats,
            mine=mine,
        )
        self._turns = Turns(
            cache=cache,
            scheduler=self.scheduler,
            answers=self._answers,
            stats=self.stats,
            most_loading=max(2, min(settings.cache.size // 2, MOST_LOADED) // settings.cache.range_size),
        )
        self.received = self._intake.received
        self.next_turn = self._turns.next_turn

    def attach(self, publisher: Publisher) -> None:
        """Says where answers go; before the first message."""
        self._answers.publisher = publisher

    def connected(self) -> None:
        """Requests can arrive."""
        log.info("listening for requests")

    def disconnected(self) -> None:
        """What was not written is dropped, not sent again: devices ask (DESIGN "Processes")."""
        self._intake.drop_lookups()
        self._turns.clear()

    def let_go(self) -> None:
        """Some things are no longer `mine`: drops what waits for them, so that nobody is answered twice."""
        mine = self._mine
        if mine is not None:
            self._turns.withdraw_things(lambda thing: not mine(thing))

    def forget(self, stream_id: str) -> None:
        """The stream was changed or deleted: what waits for it is decided anew."""
        self._catalog.forget(stream_id)
        for thing, request in self._turns.withdraw(stream_id):
            self._intake.admit_again(thing, request)

    async def close(self) -> None:
        """Ends what is under way."""
        await self._intake.close()
        self._turns.clear()
