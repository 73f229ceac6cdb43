"""The errors of `iot-jobs-data`, named as its model names them; the model has their HTTP statuses."""

from broker_bridge.api.errors import ApiError, ServiceUnavailableException
from broker_bridge.jobs.errors import (
    ExecutionEnded,
    ExecutionNotFound,
    InvalidJob,
    InvalidTransition,
    JobNotFound,
    VersionMismatch,
)
from broker_bridge.registry.errors import RegistryUnavailable


class InvalidRequestException(ApiError):
    """The request breaks the model, or makes no sense."""


class ResourceNotFoundException(ApiError):
    """No such job, or the thing has no execution of it."""


class InvalidStateTransitionException(ApiError):
    """The execution has ended, or is not at the version that the update expects."""


class TerminalStateException(ApiError):
    """The execution that was asked about has ended."""


def translate(error: Exception) -> ApiError | None:
    """What the rooms below raise, as this service calls it. None for what is a fault of ours."""
    match error:
        case JobNotFound() | ExecutionNotFound():
            return ResourceNotFoundException(str(error))
        case InvalidJob():
            return InvalidRequestException(str(error))
        case InvalidTransition():
            return InvalidStateTransitionException(f"status: {error}")
        case VersionMismatch():
            # The model has no error for it; this is the one that it has with AWS's status for conflicts, 409.
            return InvalidStateTransitionException(f"expectedVersion: {error}")
        case ExecutionEnded():
            return TerminalStateException(str(error))
        case RegistryUnavailable():
            return ServiceUnavailableException("the registry does not answer; try again")
    return None
