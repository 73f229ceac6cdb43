"""amqtt, taught `$aws/` topics."""

import asyncio
from importlib.metadata import version
from typing import Any, Final

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.events import BrokerEvents
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

WRITTEN_FOR: Final = "0.12.1"
"""The version of amqtt whose insides are overridden here."""


class _Broadcast(dict[str, Any]):
    """What amqtt's broadcast loop takes from its queue; it asks for `qos`, by default the subscription's."""

    def get(self, key: str, default: Any = None) -> Any:
        """For `qos`, the smaller of publisher's and subscription's, as MQTT 3.1.1, 3.8.4 has it."""
        return min(self["qos"], default) if key == "qos" else super().get(key, default)


class AwsTopicsBroker(Broker):  # type: ignore[misc]  # amqtt has no types
    """amqtt's broker, delivering on `$aws/` too; all else is as amqtt has it: `$SYS` stays refused."""

    def __init__(self, config: dict[str, Any]) -> None:
        """RuntimeError where amqtt is not the version this was written for: its insides may have moved."""
        found = version("amqtt")
        if found != WRITTEN_FOR:
            raise RuntimeError(f"the embedded broker needs amqtt {WRITTEN_FOR}; amqtt {found} is installed")
        super().__init__(config)

    async def _handle_message_delivery(
        self, client_session: Session, handler: BrokerProtocolHandler, wait_deliver: asyncio.Future[Any]
    ) -> bool:
        message = wait_deliver.result()
        topic = message.topic if message is not None else None
        if not topic or not topic.startswith("$aws/") or "#" in topic or "+" in topic:
            return bool(await super()._handle_message_delivery(client_session, handler, wait_deliver))
        fire, client_id = self.plugins_manager.fire_event, client_session.client_id
        await fire(BrokerEvents.MESSAGE_RECEIVED, client_id=client_id, message=message)
        if await self._topic_filtering(client_session, topic=topic, action=Action.PUBLISH):
            await fire(BrokerEvents.MESSAGE_BROADCAST, client_id=client_id, message=message)
            await self._broadcast_queue.put(
                _Broadcast(session=client_session, topic=topic, data=message.data, qos=message.qos)
            )
            if message.publish_packet and message.publish_packet.retain_flag:
                await self.retain_message(client_session, topic, message.data, message.qos)
        return True
