"""AWS's `iot-jobs-data`: jobs as devices see them, over HTTP. The same over MQTT: `broker_bridge.job_topics`.

Who calls is not authenticated, and so may speak for any thing, as with all of the API. StartCommandExecution
is left out: it belongs to AWS's remote commands, which are no jobs.
"""

from broker_bridge.api.jobs_data import executions
from broker_bridge.api.jobs_data.errors import InvalidRequestException, translate
from broker_bridge.api.service import Service

SERVICE = Service(
    name="iot-jobs-data",
    signing_name="iot-jobs-data",
    modules=(executions,),
    invalid=InvalidRequestException,
    amend=lambda _: {},
    translate=translate,
)
