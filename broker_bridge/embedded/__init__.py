"""A broker in a child process, for the desk and for tests (DESIGN "Processes")."""

from broker_bridge.embedded.parent import EmbeddedBroker, EmbeddedBrokerError, PortTaken

__all__ = ["EmbeddedBroker", "EmbeddedBrokerError", "PortTaken"]
