"""ARNs of streams: `arn:aws:iot:{region}:{account}:stream/{streamId}` (PROTOCOL "The control plane")."""

import re

from broker_bridge.api.context import Context
from broker_bridge.api.iot.errors import InvalidRequestException

_ARN = re.compile(r"arn:aws:iot:([^:]*):([^:]*):([^:/]*)/(.*)")
_STREAM_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def stream_arn(context: Context, stream_id: str) -> str:
    """The stream's ARN."""
    return f"arn:aws:iot:{context.region}:{context.account}:stream/{stream_id}"


def stream_id(context: Context, arn: str) -> str:
    """The stream that the `resourceArn` of a request names, whether there is such a stream or not.

    Raises InvalidRequestException for what is no ARN of a stream of this region and account.
    """
    match = _ARN.fullmatch(arn)
    if match is None:
        raise InvalidRequestException("resourceArn: it is not an ARN of AWS IoT")
    region, account, kind, name = match.groups()
    for what, found, wanted in (
        ("region", region, context.region),
        ("account", account, context.account),
        ("resource type", kind, "stream"),
    ):
        if found != wanted:
            raise InvalidRequestException(f"resourceArn: its {what} is {found[:64]!r}, not {wanted!r}")
    if not _STREAM_ID.fullmatch(name):
        raise InvalidRequestException("resourceArn: it holds no stream id, 1 to 128 of [a-zA-Z0-9_-]")
    return name
