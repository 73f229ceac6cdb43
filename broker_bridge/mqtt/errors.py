"""Why there is no connection to the broker. Messages begin with host:port and never hold a password."""


class BrokerError(Exception):
    """No connection to the broker."""


class BrokerUnreachable(BrokerError):
    """Nothing there that speaks MQTT: no route, no listener, no trust (TLS), no answer, or no sense in it."""


class BrokerRefused(BrokerError):
    """The broker said no: to the client id, the credentials, or a subscription."""
