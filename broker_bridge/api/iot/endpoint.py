"""DescribeEndpoint."""

from broker_bridge.api.context import Context
from broker_bridge.api.iot.errors import InvalidRequestException

# Both are the broker: the difference is whose certificate AWS shows there, and here it is the broker's own.
_BROKER = ("iot:Data", "iot:Data-ATS")
_ELSEWHERE = ("iot:CredentialProvider", "iot:Jobs")


def describe_endpoint(context: Context, *, endpoint_type: str = "iot:Data") -> dict[str, object]:
    """Where devices connect: the setting `advertise`, host or host:port.

    Endpoint types that AWS has and we do not are refused, as unknown ones are.
    """
    if endpoint_type in _ELSEWHERE:
        raise InvalidRequestException(f"endpointType: {endpoint_type} is not offered by this service")
    if endpoint_type not in _BROKER:
        raise InvalidRequestException(
            f"endpointType: {endpoint_type[:64]!r} is none of {', '.join((*_BROKER, *_ELSEWHERE))}"
        )
    return {"endpointAddress": context.advertise}
