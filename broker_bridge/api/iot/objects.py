"""Objects that requests name, with what the store says of them as AWS IoT calls it."""

from collections.abc import Iterator
from contextlib import contextmanager

from broker_bridge.api.context import Context
from broker_bridge.api.errors import ServiceUnavailableException
from broker_bridge.api.iot.errors import (
    InvalidRequestException,
    ResourceNotFoundException,
    UnauthorizedException,
)
from broker_bridge.storage.objects import (
    BucketMissing,
    ObjectChanged,
    ObjectForbidden,
    ObjectInfo,
    ObjectMissing,
    ObjectRef,
    StoreUnavailable,
)


def head(context: Context, where: str, bucket: str, key: str, version: str | None) -> ObjectInfo:
    """The object as it is now; `where` is the member that names it.

    ResourceNotFoundException, UnauthorizedException, ServiceUnavailableException.
    """
    with _errors(where, bucket, key, version):
        return context.store.head(bucket, key, version)


def read(context: Context, where: str, bucket: str, key: str, version: str | None, limit: int) -> bytes:
    """The whole object. Raises as `head`; InvalidRequestException if it is over `limit` bytes."""
    info = head(context, where, bucket, key, version)
    if info.size > limit:
        raise InvalidRequestException(
            f"{where}: the object has {info.size} bytes, over the maximum of {limit}"
        )
    with _errors(where, bucket, key, version):
        return context.store.read(ObjectRef(bucket, key, info.etag, version), 0, info.size)


@contextmanager
def _errors(where: str, bucket: str, key: str, version: str | None) -> Iterator[None]:
    named = f"{key[:256]!r} in bucket {bucket[:64]!r}"
    if version is not None:
        named = f"version {version[:64]!r} of {named}"
    try:
        yield
    except BucketMissing:
        raise ResourceNotFoundException(f"{where}.bucket: there is no bucket {bucket[:64]!r}") from None
    except ObjectMissing:
        raise ResourceNotFoundException(f"{where}: there is no object {named}") from None
    except ObjectForbidden:
        raise UnauthorizedException(f"{where}: the service may not read {named}") from None
    except ObjectChanged:
        raise ServiceUnavailableException(f"{where}: {named} was overwritten meanwhile; try again") from None
    except StoreUnavailable as error:
        raise ServiceUnavailableException(f"{where}: the object store does not answer; try again") from error
