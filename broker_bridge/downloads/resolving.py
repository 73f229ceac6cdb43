"""From placeholders to URLs, when a device gets its job's document (AWS IoT guide, "Presigned URLs")."""

import time
from collections.abc import Callable

import structlog

from broker_bridge.downloads import placeholders
from broker_bridge.downloads.links import Links
from broker_bridge.jobs.job import Job
from broker_bridge.storage.locations import Location
from broker_bridge.storage.objects import ObjectRef, ObjectStore, StorageError

log = structlog.get_logger("downloads")

NOWHERE = "none"
"""The ETag of an URL that was made without knowing one: no object has it."""


class Resolver:
    """Puts URLs into documents. Its calls may come from any thread."""

    def __init__(
        self,
        store: ObjectStore,
        links: Links,
        *,
        endpoint: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`links`: for what the store has no URLs of its own for. `endpoint`: that of an S3-compatible store,
        whose URLs placeholders may have. `clock`: seconds since 1970."""
        self._store = store
        self._links = links
        self._endpoint = endpoint
        self._clock = clock

    def render(self, document: str, job: Job) -> str:
        """`showing.Render`: `resolve`, for as long as the job's `presignedUrlConfig` says."""
        return self.resolve(document, job.config.url_seconds)

    def resolve(self, document: str, seconds: int) -> str:
        """The document with an URL in place of each placeholder, good for `seconds` from now.

        An URL is made also where the object is missing or cannot be read: it answers so, and the device
        reports what it met. In a folder an object without an ETag in its placeholder is looked at, and read
        whole where its MD5 is not known: once after each change and each start of the service.
        """
        return placeholders.replace(document, lambda one: self._url(one, seconds), endpoint=self._endpoint)

    def _url(self, one: Location, seconds: int) -> str:
        etag = one.etag
        try:
            url = self._store.presigned_url(one.bucket, one.key, one.version_id, seconds)
            if url is not None:
                return url
            if etag is None:
                etag = self._store.head(one.bucket, one.key, one.version_id).etag
        except StorageError as error:
            log.warning("a device gets an URL that leads nowhere", reason=str(error))
            etag = NOWHERE
        return self._links.url(ObjectRef(one.bucket, one.key, etag), int(self._clock()) + seconds)
