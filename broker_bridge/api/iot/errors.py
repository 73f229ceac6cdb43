"""The errors of AWS IoT's API, named as its model names them; the model has their HTTP statuses."""

from broker_bridge.api.errors import ApiError, ServiceUnavailableException
from broker_bridge.registry.errors import RegistryError, RegistryUnavailable, StreamNotFound, TooManyTags


class InvalidRequestException(ApiError):
    """The request breaks the model, or makes no sense."""


class ResourceNotFoundException(ApiError):
    """No such stream, or no such bucket, object or object version that a stream is to have."""


class ResourceAlreadyExistsException(ApiError):
    """There is a stream of that id. Members: resourceId, resourceArn."""


class LimitExceededException(ApiError):
    """More than may be."""


class UnauthorizedException(ApiError):
    """The service may not read an object."""


def translate(error: Exception) -> ApiError | None:
    """What the registry raises, as AWS IoT calls it. None for what is a fault of ours."""
    match error:
        case StreamNotFound():
            return ResourceNotFoundException(f"streamId: there is no stream {error.stream_id}")
        case TooManyTags():
            return LimitExceededException(
                f"tags: {error.owner} would have {error.count}, over the maximum of {error.limit}"
            )
        case RegistryUnavailable():
            return ServiceUnavailableException("the registry does not answer; try again")
        case RegistryError():
            return None
    return None
