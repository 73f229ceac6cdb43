"""AWS IoT's control plane (service `iot`): streams, their tags, and where the broker is."""

from broker_bridge.api.context import Context
from broker_bridge.api.iot import endpoint, streams, tags
from broker_bridge.api.iot.errors import InvalidRequestException, translate
from broker_bridge.api.service import Amendments, Service


def _amend(context: Context) -> Amendments:
    return {
        # The model marks nothing in them as required; a file that lacks one of these cannot be served.
        "StreamFile": {"required": ["fileId", "s3Location"]},
        "S3Location": {"required": ["bucket", "key"]},
        "StreamFiles": {"max": context.limits.files_per_stream},
    }


SERVICE = Service(
    name="iot",
    signing_name="iot",
    modules=(streams, tags, endpoint),
    invalid=InvalidRequestException,
    amend=_amend,
    translate=translate,
)
