"""The errors of AWS IoT's API, named as its model names them; the model has their HTTP statuses."""

from broker_bridge.api.errors import ApiError, ServiceUnavailableException
from broker_bridge.jobs.errors import (
    ExecutionNotFound,
    InvalidJob,
    InvalidJobState,
    InvalidTransition,
    JobNotFound,
    TooManyJobs,
    VersionMismatch,
)
from broker_bridge.ota.errors import InvalidUpdate
from broker_bridge.registry.errors import (
    NotAllowed,
    NotFound,
    RegistryError,
    RegistryUnavailable,
    TooManyTags,
    VersionConflict,
)


class InvalidRequestException(ApiError):
    """The request breaks the model, or makes no sense."""


class ResourceNotFoundException(ApiError):
    """No such stream, thing, …, or no such bucket, object or object version that a stream is to have."""


class ResourceAlreadyExistsException(ApiError):
    """There is one of that name already. Members: resourceId, resourceArn."""


class VersionConflictException(ApiError):
    """It is not at the version that the request expects."""


class InvalidStateTransitionException(ApiError):
    """A job, or an execution, is in a state in which this cannot be done to it."""


class LimitExceededException(ApiError):
    """More than may be."""


class UnauthorizedException(ApiError):
    """The service may not read an object."""


def translate(error: Exception) -> ApiError | None:
    """What the rooms below raise, as AWS IoT calls it. None for what is a fault of ours."""
    match error:
        case NotFound() | JobNotFound() | ExecutionNotFound():
            return ResourceNotFoundException(str(error))
        case NotAllowed() | InvalidJob() | InvalidJobState() | InvalidUpdate():
            return InvalidRequestException(str(error))
        case InvalidTransition():
            return InvalidStateTransitionException(str(error))
        case TooManyJobs():
            return LimitExceededException(str(error))
        case VersionConflict() | VersionMismatch():
            return VersionConflictException(f"expectedVersion: {error}")
        case TooManyTags():
            return LimitExceededException(
                f"tags: {error.owner} would have {error.count}, over the maximum of {error.limit}"
            )
        case RegistryUnavailable():
            return ServiceUnavailableException("the registry does not answer; try again")
        case RegistryError():
            return None
    return None
