"""Why a request is refused, in the codes of AWS's jobs MQTT API ("ErrorCode")."""

from enum import StrEnum

from broker_bridge.jobs.errors import (
    ExecutionEnded,
    ExecutionNotFound,
    InvalidJob,
    InvalidTransition,
    JobError,
    JobNotFound,
    VersionMismatch,
)
from broker_bridge.jobs.execution import Execution


class Code(StrEnum):
    """The `code` of a `rejected` message."""

    INVALID_TOPIC = "InvalidTopic"
    INVALID_JSON = "InvalidJson"
    INVALID_REQUEST = "InvalidRequest"
    INVALID_STATE_TRANSITION = "InvalidStateTransition"
    RESOURCE_NOT_FOUND = "ResourceNotFound"
    VERSION_MISMATCH = "VersionMismatch"
    INTERNAL_ERROR = "InternalError"
    REQUEST_THROTTLED = "RequestThrottled"
    TERMINAL_STATE_REACHED = "TerminalStateReached"


class Refusal(Exception):
    """A request that is refused.

    `message` goes to the device. `token` is the request's client token, where it could be read; `state` the
    execution as it is, with the two codes where AWS shows it.
    """

    def __init__(
        self, code: Code, message: str, token: str | None = None, state: Execution | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.token = token
        self.state = state


_CODES: dict[type[JobError], Code] = {
    InvalidJob: Code.INVALID_REQUEST,
    JobNotFound: Code.RESOURCE_NOT_FOUND,
    ExecutionNotFound: Code.RESOURCE_NOT_FOUND,
    ExecutionEnded: Code.TERMINAL_STATE_REACHED,
    InvalidTransition: Code.INVALID_STATE_TRANSITION,
    VersionMismatch: Code.VERSION_MISMATCH,
}


def refusal(error: JobError, token: str | None) -> Refusal:
    """How a device is told of that error. KeyError for one that devices cannot cause."""
    state = error.execution if isinstance(error, InvalidTransition | VersionMismatch) else None
    return Refusal(_CODES[type(error)], str(error), token, state)
