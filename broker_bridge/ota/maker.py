"""The thread that makes what OTA updates need, their streams and jobs, and takes it away again.

An update is made in this order: its stream, the signatures and with them the job's document, the job. Each
step leaves in the registry what the next one starts from, and done twice does the same: a service that is
killed anywhere goes on at its next start. The job comes last, so that nothing reaches a device before all of
it stands, and the document is kept before it, so that the job is known as this update's own.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from broker_bridge.jobs.errors import InvalidJob, InvalidJobState, JobExists, JobNotFound, TooManyJobs
from broker_bridge.jobs.execution import JobStatus
from broker_bridge.ota.document import document
from broker_bridge.ota.errors import CreateFailed, InvalidUpdate
from broker_bridge.ota.signatures import failed, signature
from broker_bridge.ota.signing import Profile
from broker_bridge.ota.update import CREATING, OtaUpdate, UpdateFile
from broker_bridge.pace import GAP_TAG, RATE_TAG
from broker_bridge.registry.errors import NotFound, RegistryUnavailable, StreamExists, StreamNotFound
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import StreamFile
from broker_bridge.storage.objects import ObjectStore, StoreUnavailable

log = structlog.get_logger("ota")

TRIES = 6
"""Times that an update is tried whose object store does not answer; then it has failed."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds from one try to the next, doubling. A registry that does not answer is tried without end."""
LOOK_AGAIN = 0.5
"""Seconds from one look to the next, whether the job of an update that is deleted is gone."""
OURS = "sluice:"
"""What the tags begin with that an update's job is given too."""


class _Closing(Exception):
    """The service ends: the update is gone on with at its next start."""


@dataclass(slots=True)
class _Try:
    number: int = 0
    due: float = 0.0
    """When the next is due, monotonic seconds."""


class Maker:
    """Makes and unmakes the updates of a registry, one after the other, in a thread of its own."""

    def __init__(
        self,
        registry: Registry,
        store: ObjectStore,
        profiles: Mapping[str, Profile],
        *,
        region: str,
        clock: Callable[[], datetime],
    ) -> None:
        """`profiles` by name; `clock` gives the time in UTC."""
        self._registry = registry
        self._store = store
        self._profiles = profiles
        self._region = region
        self._clock = clock
        self._tries: dict[str, _Try] = {}
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ota")

    def start(self) -> None:
        """Begins with what the last service left over."""
        self._registry.ota.on_work(self._woken.set)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, at the latest after the call to the store that it is in."""
        self._closing.set()
        self._woken.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closing.is_set():
            self._woken.clear()
            self._woken.wait(self._run())

    def _run(self) -> float | None:
        """Does what is due; returns the seconds until more is, None where nothing is waited for."""
        try:
            unfinished = self._registry.ota.unfinished()
        except RegistryUnavailable as error:
            log.warning("the registry does not answer", reason=str(error))
            return FIRST_PAUSE
        self._tries = {name: self._tries.get(name, _Try()) for name in unfinished}
        for name, attempt in self._tries.items():
            if self._closing.is_set():
                return None
            if attempt.due <= time.monotonic():
                try:
                    self._attend(name, attempt)
                except Exception:  # a fault of ours: the other updates go on
                    log.exception("an OTA update failed", update=name)
                    attempt.due = time.monotonic() + LONGEST_PAUSE
                    self._give_up(name)
        waiting = [attempt.due for attempt in self._tries.values() if attempt.due]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _attend(self, name: str, attempt: _Try) -> None:
        attempt.number += 1
        attempt.due = 0.0
        try:
            update = self._registry.ota.get(name)
            if update.status in CREATING:
                self._create(update, last=attempt.number >= TRIES)
            elif not self._delete(update):
                attempt.number = 0
                attempt.due = time.monotonic() + LOOK_AGAIN
        except _Closing:
            return
        except (StoreUnavailable, RegistryUnavailable) as error:
            pause = min(FIRST_PAUSE * 2.0 ** min(attempt.number - 1, 10), LONGEST_PAUSE)
            attempt.due = time.monotonic() + pause
            log.warning("an OTA update is tried again", update=name, seconds=pause, reason=str(error))

    def _give_up(self, name: str) -> None:
        code, message = "InternalFailureException", "a fault of the service: its log says more"
        ota, now = self._registry.ota, self._clock()
        with suppress(RegistryUnavailable):
            if not ota.fail_creation(name, code, message, now):
                ota.fail_deletion(name, code, message, now)

    # Making

    def _create(self, update: OtaUpdate, *, last: bool) -> None:
        ota, name = self._registry.ota, update.ota_update_id
        try:
            made = ota.begin(name, self._clock())
            if made and update.document is None:
                text = self._prepare(update, last)
                made = ota.keep_document(name, text, self._clock())
                update = replace(update, document=text)
            if made:
                self._make_job(update)
                made = ota.complete(name, self._clock())
        except CreateFailed as error:
            self._unmake_stream(update)
            made = ota.fail_creation(name, error.code, str(error), self._clock())
            log.warning("an OTA update cannot be made", update=name, code=error.code, reason=str(error))
        if not made:
            # Somebody deleted it meanwhile.
            self._woken.set()

    def _prepare(self, update: OtaUpdate, last: bool) -> str:
        """Makes the stream, or sees that it is still as it was; signs; returns the job's document."""
        plan = update.plan
        if plan.makes_stream:
            self._make_stream(update)
        elif plan.stream_id is not None:
            self._check_stream(plan.stream_id, plan.files)
        signed = []
        for file in plan.files:
            try:
                signed.append((file, signature(file, self._store, self._profiles, self._go_on)))
            except StoreUnavailable as error:
                if not last:
                    raise
                raise failed(file, "ServiceUnavailableException", "the object store fails") from error
        try:
            return document(signed, protocols=plan.protocols, stream_id=plan.stream_id, region=self._region)
        except InvalidUpdate as error:
            raise CreateFailed("InvalidRequestException", str(error)) from None

    def _go_on(self) -> None:
        if self._closing.is_set():
            raise _Closing

    def _make_stream(self, update: OtaUpdate) -> None:
        plan = update.plan
        assert plan.stream_id is not None
        tags = self._registry.ota.tagging.tags(update.ota_update_id)
        try:
            self._registry.create_stream(
                plan.stream_id,
                description=plan.description,
                role_arn=plan.role_arn,
                files=tuple(StreamFile(file.file_id, file.object, file.size) for file in plan.files),
                tags={key: value for key, value in tags.items() if key in (RATE_TAG, GAP_TAG)},
                now=self._clock(),
            )
        except StreamExists:
            # Its id is random: an earlier try made it.
            self._check_stream(plan.stream_id, plan.files)

    def _check_stream(self, stream_id: str, files: Sequence[UpdateFile]) -> None:
        try:
            stream = self._registry.stream(stream_id)
        except StreamNotFound as error:
            raise CreateFailed("ResourceNotFoundException", str(error)) from None
        for file in files:
            found = stream.file(file.file_id)
            if found is None or found.object != file.object:
                message = f"stream {stream_id} has other bytes for it since the update was created"
                raise failed(file, "VersionMismatch", message)

    def _make_job(self, update: OtaUpdate) -> None:
        plan = update.plan
        assert update.document is not None
        tags = self._registry.ota.tagging.tags(update.ota_update_id)
        try:
            self._registry.jobs.create(
                update.job_id,
                things=plan.things,
                groups=plan.groups,
                continuous=plan.continuous,
                document=update.document,
                document_source=None,
                description=plan.description,
                config_text=plan.job_config,
                tags={key: value for key, value in tags.items() if key.startswith(OURS)},
                now=self._clock(),
            )
        except JobExists as error:
            if not self._has_job(update):
                raise CreateFailed("ResourceAlreadyExistsException", str(error)) from None
        except NotFound as error:
            raise CreateFailed("ResourceNotFoundException", f"targets: {error}") from None
        except (InvalidJob, TooManyJobs) as error:
            raise CreateFailed("InvalidRequestException", str(error)) from None

    def _has_job(self, update: OtaUpdate) -> bool:
        """Whether the job of that id is this update's: no other has its document."""
        try:
            return self._registry.jobs.document(update.job_id) == update.document
        except JobNotFound:
            return False

    # Unmaking

    def _delete(self, update: OtaUpdate) -> bool:
        """Whether all of it is gone, or it was given up. False: its job is being deleted."""
        if update.document is not None and self._has_job(update):
            try:
                self._registry.jobs.delete(update.job_id, self._clock(), force=update.force_delete)
            except JobNotFound:
                pass
            except TooManyJobs:
                return False
            except InvalidJobState as error:
                if self._registry.jobs.get(update.job_id).status is JobStatus.DELETION_IN_PROGRESS:
                    return False
                code, now = "InvalidRequestException", self._clock()
                self._registry.ota.fail_deletion(update.ota_update_id, code, str(error), now)
                return True
            else:
                return False
        if update.delete_stream:
            self._unmake_stream(update)
        self._registry.ota.remove(update.ota_update_id)
        return True

    def _unmake_stream(self, update: OtaUpdate) -> None:
        if update.plan.makes_stream and update.plan.stream_id is not None:
            with suppress(StreamNotFound):
                self._registry.delete_stream(update.plan.stream_id)
