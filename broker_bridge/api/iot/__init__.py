"""AWS IoT's control plane (service `iot`): streams, things, groups, jobs, OTA updates, tags, the address."""

from broker_bridge.api.context import Context
from broker_bridge.api.iot import (
    endpoint,
    job_executions,
    jobs,
    ota_updates,
    streams,
    tags,
    thing_groups,
    thing_types,
    things,
)
from broker_bridge.api.iot.errors import InvalidRequestException, translate
from broker_bridge.api.service import Amendments, Service


def _amend(context: Context) -> Amendments:
    return {
        # The model marks nothing in them as required; a file that lacks one of these cannot be served.
        "StreamFile": {"required": ["fileId", "s3Location"]},
        "S3Location": {"required": ["bucket", "key"]},
        "StreamFiles": {"max": context.limits.files_per_stream},
        # AWS's quota; the model is silent.
        "SearchableAttributes": {"max": 3},
        # Of an OTA update, which makes a stream of them and a job; the model has these bounds for jobs alone.
        "OTAUpdateFile": {"required": ["fileName", "fileLocation"]},
        "OTAUpdateFiles": {"max": context.limits.files_per_stream},
        "AwsJobRolloutIncrementFactor": {"min": 1.1, "max": 5},
        "ExpiresInSeconds": {"min": 60, "max": 3600},
    }


SERVICE = Service(
    name="iot",
    signing_name="iot",
    modules=(streams, things, thing_types, thing_groups, jobs, job_executions, ota_updates, tags, endpoint),
    invalid=InvalidRequestException,
    amend=_amend,
    translate=translate,
)
