"""ARNs of what AWS IoT has: `arn:aws:iot:{region}:{account}:{type}/{name}`."""

import re
from collections.abc import Collection

from broker_bridge.api.context import Context
from broker_bridge.api.iot.errors import InvalidRequestException

STREAM, THING, THING_GROUP, THING_TYPE = "stream", "thing", "thinggroup", "thingtype"
JOB, OTA_UPDATE = "job", "otaupdate"

_ARN = re.compile(r"arn:aws:iot:([^:]*):([^:]*):([^:/]*)/(.*)")
_NAMES = {
    STREAM: re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    THING: re.compile(r"[a-zA-Z0-9:_-]{1,128}"),
    THING_GROUP: re.compile(r"[a-zA-Z0-9:_-]{1,128}"),
    THING_TYPE: re.compile(r"[a-zA-Z0-9:_-]{1,128}"),
    JOB: re.compile(r"[a-zA-Z0-9_-]{1,64}"),
    OTA_UPDATE: re.compile(r"[a-zA-Z0-9_-]{1,128}"),
}
"""What names look like, by resource type."""


def arn(context: Context, kind: str, name: str) -> str:
    """The ARN of the resource of that type and name."""
    return f"arn:aws:iot:{context.region}:{context.account}:{kind}/{name}"


def resource(context: Context, given: str, member: str, kinds: Collection[str]) -> tuple[str, str]:
    """Type and name of the resource that an ARN names, whether there is one or not.

    Raises InvalidRequestException for what is no ARN of this region and account, or of none of those types;
    `member` is where it stands in the request.
    """
    match = _ARN.fullmatch(given)
    if match is None:
        raise InvalidRequestException(f"{member}: it is not an ARN of AWS IoT")
    region, account, kind, name = match.groups()
    for what, found, wanted in (("region", region, context.region), ("account", account, context.account)):
        if found != wanted:
            raise InvalidRequestException(f"{member}: its {what} is {found[:64]!r}, not {wanted!r}")
    if kind not in kinds:
        raise InvalidRequestException(
            f"{member}: its resource type is {kind[:64]!r}, not {' or '.join(map(repr, kinds))}"
        )
    if not _NAMES[kind].fullmatch(name):
        raise InvalidRequestException(f"{member}: it holds no name of a {kind}, {_NAMES[kind].pattern}")
    return kind, name
