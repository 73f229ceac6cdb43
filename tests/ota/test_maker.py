"""What becomes of an update: made, failed with a reason, or gone, whatever comes between."""

import base64
import hashlib
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.jobs.engine import Engine
from broker_bridge.jobs.errors import JobNotFound
from broker_bridge.jobs.execution import JobStatus
from broker_bridge.ota import maker as maker_module
from broker_bridge.ota.signing import verifies
from broker_bridge.ota.update import ByProfile, Given, OtaUpdate, Signature, UpdateStatus
from broker_bridge.registry.errors import StreamNotFound
from broker_bridge.registry.jobs.store import MAX_DELETING
from broker_bridge.registry.ota import OtaUpdateNotFound
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import StreamFile
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectForbidden, ObjectRef, StoreUnavailable
from tests.ota.conftest import IMAGE
from tests.ota.making import ROLE, a_file, a_plan, ended, making, private_key, profiles, public_pem
from tests.support.waiting import wait_until

ECDSA = ByProfile(profile="ecdsa", certificate_path="/ecdsa.pem")
DIGEST = hashlib.sha256(IMAGE).digest()


def now() -> datetime:
    return datetime.now(UTC)


def ask(registry: Registry, plan: Any, name: str = "u", **tags: str) -> OtaUpdate:
    """The update as it was asked for."""
    given = {key.replace("__", ":").replace("_", "-"): value for key, value in tags.items()}
    return registry.ota.create(name, plan=plan, shown={}, tags=given, now=now())


def told(registry: Registry, name: str = "u") -> Any:
    """What devices are told of the update's file."""
    (file,) = json.loads(registry.jobs.document(f"AFR_OTA-{name}"))["afr_ota"]["files"]
    return file


def given(signature: bytes, key: str | None = None) -> Given:
    text = base64.b64encode(signature).decode()
    made = Signature(key="sig-sha256-ecdsa", text=text, certificate_path="/c")
    return Given(signature=made, public_key=key)


def run_engine(registry: Registry) -> None:
    engine = Engine(registry.jobs, registry.job_steps)
    while engine.run(now()) <= now():
        pass


def test_a_stream_and_a_job_are_made(registry: Registry, store: FolderStore) -> None:
    plan = a_plan(a_file(store, signing=ECDSA), description="better", job_config='{"x":1}')
    with making(registry, store, profiles("ecdsa")):
        ask(registry, plan, sluice__bytes_per_second="64 KiB", other="1")
        assert ended(registry, "u") is UpdateStatus.CREATE_COMPLETE
    assert plan.stream_id is not None
    stream = registry.stream(plan.stream_id)
    assert (stream.files, stream.role_arn) == ((StreamFile(0, plan.files[0].object, len(IMAGE)),), ROLE)
    assert stream.pace is not None
    job = registry.jobs.get("AFR_OTA-u")
    assert (job.description, job.config_text, job.continuous) == ("better", '{"x":1}', False)
    assert registry.jobs.tagging.tags("AFR_OTA-u") == {"sluice:bytes-per-second": "64 KiB"}
    document = json.loads(registry.jobs.document("AFR_OTA-u"))["afr_ota"]
    assert document["streamname"] == plan.stream_id
    file = told(registry)
    assert (file["filepath"], file["filesize"], file["certfile"]) == ("/app.bin", len(IMAGE), "/ecdsa.pem")
    key = public_pem(private_key("ecdsa"))
    assert verifies(key, "sig-sha256-ecdsa", DIGEST, file["sig-sha256-ecdsa"])


def test_over_http_alone_no_stream_is_made(registry: Registry, store: FolderStore) -> None:
    plan = a_plan(a_file(store), protocols=("HTTP",), stream_id=None, makes_stream=False)
    with making(registry, store):
        ask(registry, plan)
        assert ended(registry, "u") is UpdateStatus.CREATE_COMPLETE
    assert registry.count() == 0
    assert told(registry)["update_data_url"].startswith("${aws:iot:s3-presigned-url")


def test_what_a_service_left_over_is_made_by_the_next(registry: Registry, store: FolderStore) -> None:
    for i in range(3):
        ask(registry, a_plan(a_file(store)), f"u{i}")
    with making(registry, store):
        for i in range(3):
            assert ended(registry, f"u{i}") is UpdateStatus.CREATE_COMPLETE


@pytest.mark.parametrize("kind", ["right", "wrong", "unchecked"])
def test_a_given_signature_is_checked_where_a_certificate_is_given(
    kind: str, registry: Registry, store: FolderStore
) -> None:
    signer = profiles("ecdsa")["ecdsa"].signer
    good = signer.sign(DIGEST)
    key = None if kind == "unchecked" else public_pem(private_key("ecdsa"))
    signing = given(good if kind == "right" else signer.sign(hashlib.sha256(b"older").digest()), key)
    plan = a_plan(a_file(store, signing=signing))
    with making(registry, store):
        ask(registry, plan)
        status = ended(registry, "u")
    if kind != "wrong":
        assert status is UpdateStatus.CREATE_COMPLETE
        assert told(registry)["sig-sha256-ecdsa"] == signing.signature.text
        return
    assert status is UpdateStatus.CREATE_FAILED
    code, message = registry.ota.get("u").error or ("", "")
    assert code == "InvalidRequestException"
    assert message.startswith("file 0 (/app.bin): its signature is not one of this object")
    nothing_is_left(registry, plan.stream_id)


def nothing_is_left(registry: Registry, stream_id: str | None) -> None:
    with pytest.raises(JobNotFound):
        registry.jobs.get("AFR_OTA-u")
    if stream_id is not None:
        with pytest.raises(StreamNotFound):
            registry.stream(stream_id)


@pytest.mark.parametrize("signing", [None, ECDSA, given(b"x")], ids=["none", "profile", "given"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda path: path.write_bytes(b"other"), "ETagMismatch"),
        (lambda path: path.unlink(), "ResourceNotFoundException"),
    ],
    ids=["overwritten", "deleted"],
)
def test_other_bytes_than_those_of_the_update_fail_it(
    signing: Any, change: Any, code: str, registry: Registry, store: FolderStore, objects: Path
) -> None:
    plan = a_plan(a_file(store, signing=signing))
    ask(registry, plan)
    change(objects / "firmware" / "app.bin")
    with making(registry, store, profiles("ecdsa")):
        assert ended(registry, "u") is UpdateStatus.CREATE_FAILED
    assert (registry.ota.get("u").error or ("",))[0] == code
    nothing_is_left(registry, plan.stream_id)


def test_a_target_that_is_gone_when_the_job_is_made(registry: Registry, store: FolderStore) -> None:
    plan = a_plan(a_file(store))
    ask(registry, plan)
    registry.things.delete("t", expected_version=None)
    with making(registry, store):
        assert ended(registry, "u") is UpdateStatus.CREATE_FAILED
    assert registry.ota.get("u").error == ("ResourceNotFoundException", "targets: there is no thing t")
    nothing_is_left(registry, plan.stream_id)


def test_a_job_of_somebody_else_is_left_alone(registry: Registry, store: FolderStore) -> None:
    plan = a_plan(a_file(store))
    ask(registry, plan)
    job(registry, "AFR_OTA-u")
    with making(registry, store):
        assert ended(registry, "u") is UpdateStatus.CREATE_FAILED
        assert (registry.ota.get("u").error or ("",))[0] == "ResourceAlreadyExistsException"
        registry.ota.delete("u", delete_stream=True, force=True, now=now())
        wait_until(lambda: gone(registry), what="the end of the update")
    assert registry.jobs.get("AFR_OTA-u").status is JobStatus.IN_PROGRESS


def job(registry: Registry, job_id: str) -> None:
    registry.jobs.create(
        job_id,
        things=["t"],
        groups=[],
        continuous=False,
        document="{}",
        document_source=None,
        description=None,
        config_text="{}",
        tags={},
        now=now(),
    )


def gone(registry: Registry) -> bool:
    try:
        registry.ota.get("u")
    except OtaUpdateNotFound:
        return True
    return False


def run_out(registry: Registry) -> bool:
    run_engine(registry)
    return gone(registry)


def test_a_profile_that_the_settings_lost(registry: Registry, store: FolderStore) -> None:
    ask(registry, a_plan(a_file(store, signing=ECDSA)))
    with making(registry, store):
        assert ended(registry, "u") is UpdateStatus.CREATE_FAILED
    assert "no profile 'ecdsa'" in (registry.ota.get("u").error or ("", ""))[1]


@pytest.mark.parametrize("change", ["other bytes", "no such file", "no such stream"])
def test_a_stream_of_the_operators_that_changed(change: str, registry: Registry, store: FolderStore) -> None:
    file = a_file(store)
    stream(registry, StreamFile(0, file.object, file.size))
    plan = a_plan(file, stream_id="mine", makes_stream=False)
    ask(registry, plan)
    if change == "no such stream":
        registry.delete_stream("mine")
    else:
        other = StreamFile(0, ObjectRef("firmware", "app.bin", "other"), file.size)
        files = (other,) if change == "other bytes" else ()
        registry.update_stream("mine", description=None, role_arn=None, files=files, now=now())
    with making(registry, store):
        assert ended(registry, "u") is UpdateStatus.CREATE_FAILED
    code = "ResourceNotFoundException" if change == "no such stream" else "VersionMismatch"
    assert (registry.ota.get("u").error or ("",))[0] == code
    nothing_is_left(registry, None)
    assert registry.count() == (change != "no such stream")


def stream(registry: Registry, *files: StreamFile) -> None:
    registry.create_stream("mine", description=None, role_arn=ROLE, files=files, tags={}, now=now())


class Failing(FolderStore):
    """A folder whose reads fail, until `left` of them have."""

    def __init__(self, folder: Path, error: Exception, left: int) -> None:
        super().__init__(folder)
        self.error = error
        self.left = left
        self.read_once = threading.Event()

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        self.read_once.set()
        if self.left:
            self.left -= 1
            raise self.error
        return super().read(ref, start, length)


@pytest.mark.parametrize(
    ("left", "status"),
    [(2, UpdateStatus.CREATE_COMPLETE), (maker_module.TRIES, UpdateStatus.CREATE_FAILED)],
    ids=["for a while", "for good"],
)
def test_a_store_that_does_not_answer(
    left: int, status: UpdateStatus, registry: Registry, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maker_module, "FIRST_PAUSE", 0.01)
    store = Failing(objects, StoreUnavailable("no"), left)
    plan = a_plan(a_file(store, signing=ECDSA))
    with making(registry, store, profiles("ecdsa")):
        ask(registry, plan)
        assert ended(registry, "u") is status
    if status is UpdateStatus.CREATE_FAILED:
        assert store.left == 0
        assert (registry.ota.get("u").error or ("",))[0] == "ServiceUnavailableException"
        nothing_is_left(registry, plan.stream_id)
    store.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [(ObjectForbidden("no"), "UnauthorizedException"), (RuntimeError("no"), "InternalFailureException")],
)
def test_other_failures_of_a_store_are_final(
    error: Exception, code: str, registry: Registry, objects: Path
) -> None:
    store = Failing(objects, error, 1)
    signed, plain = a_plan(a_file(store, signing=ECDSA)), a_plan(a_file(store))
    with making(registry, store, profiles("ecdsa")):
        ask(registry, signed)
        ask(registry, plain, "v")
        assert ended(registry, "u") is UpdateStatus.CREATE_FAILED
        assert ended(registry, "v") is UpdateStatus.CREATE_COMPLETE
    assert (registry.ota.get("u").error or ("",))[0] == code
    store.close()


class Endless(FolderStore):
    """A folder with an image that takes its time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reading, self.go_on = threading.Event(), threading.Event()

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        self.reading.set()
        assert self.go_on.wait(60)
        return super().read(ref, start, length)


def test_an_end_in_the_middle_is_gone_on_with(registry: Registry, objects: Path) -> None:
    (objects / "firmware" / "app.bin").write_bytes(bytes(3 << 20))
    store = Endless(objects)
    plan = a_plan(a_file(store, signing=ECDSA))
    ask(registry, plan)
    with making(registry, store, profiles("ecdsa")) as maker:
        assert store.reading.wait(60)
        closing = threading.Thread(target=maker.close)
        closing.start()
        wait_until(maker._closing.is_set, what="the beginning of the end")
        store.go_on.set()
        closing.join(60)
        assert not closing.is_alive()
    assert registry.ota.get("u").status is UpdateStatus.CREATE_IN_PROGRESS
    with making(registry, store, profiles("ecdsa")):
        assert ended(registry, "u") is UpdateStatus.CREATE_COMPLETE
    assert registry.count() == 1
    store.close()


@pytest.mark.parametrize("delete_stream", [True, False])
def test_a_deletion_ends_with_its_job_s(delete_stream: bool, registry: Registry, store: FolderStore) -> None:
    plan = a_plan(a_file(store))
    with making(registry, store):
        ask(registry, plan, a="b")
        assert ended(registry, "u") is UpdateStatus.CREATE_COMPLETE
        run_engine(registry)
        registry.ota.delete("u", delete_stream=delete_stream, force=True, now=now())
        deleting = JobStatus.DELETION_IN_PROGRESS
        wait_until(lambda: registry.jobs.get("AFR_OTA-u").status is deleting, what="its job's deletion")
        assert registry.ota.get("u").status is UpdateStatus.DELETE_IN_PROGRESS
        assert registry.count() == 1
        run_engine(registry)
        wait_until(lambda: gone(registry), what="the end of the update")
    assert registry.count() == (not delete_stream)


def test_a_job_in_progress_is_not_deleted_without_force(registry: Registry, store: FolderStore) -> None:
    plan = a_plan(a_file(store))
    with making(registry, store):
        ask(registry, plan)
        assert ended(registry, "u") is UpdateStatus.CREATE_COMPLETE
        registry.ota.delete("u", delete_stream=True, force=False, now=now())
        failed = UpdateStatus.DELETE_FAILED
        wait_until(lambda: registry.ota.get("u").status is failed, what="the failure")
        assert registry.ota.get("u").error == (
            "InvalidRequestException",
            "job AFR_OTA-u is IN_PROGRESS and cannot be deleted",
        )
        assert registry.count() == 1
        registry.ota.delete("u", delete_stream=True, force=True, now=now())
        assert registry.ota.get("u").error is None
        wait_until(lambda: run_out(registry), what="the end of the update")
    assert registry.count() == 0


def test_a_deletion_waits_while_too_many_jobs_are_being_deleted(
    registry: Registry, store: FolderStore
) -> None:
    with making(registry, store) as maker:
        ask(registry, a_plan(a_file(store)))
        assert ended(registry, "u") is UpdateStatus.CREATE_COMPLETE
        for i in range(MAX_DELETING):
            job(registry, f"j{i}")
            registry.jobs.delete(f"j{i}", now(), force=True)
        registry.ota.delete("u", delete_stream=True, force=True, now=now())
        wait_until(lambda: "u" in maker._tries and maker._tries["u"].due, what="its first look")
        assert registry.jobs.get("AFR_OTA-u").status is JobStatus.IN_PROGRESS
        wait_until(lambda: run_out(registry), what="the end of the update")


def test_an_operator_s_stream_is_not_deleted(registry: Registry, store: FolderStore) -> None:
    file = a_file(store)
    stream(registry, StreamFile(0, file.object, file.size))
    with making(registry, store):
        ask(registry, a_plan(file, stream_id="mine", makes_stream=False))
        assert ended(registry, "u") is UpdateStatus.CREATE_COMPLETE
        registry.ota.delete("u", delete_stream=True, force=True, now=now())
        wait_until(lambda: run_out(registry), what="the end of the update")
    assert registry.stream("mine").version == 1


def test_a_deletion_in_the_middle_of_the_creation(registry: Registry, objects: Path) -> None:
    store = Endless(objects)
    ask(registry, a_plan(a_file(store, signing=ECDSA)))
    with making(registry, store, profiles("ecdsa")):
        assert store.reading.wait(60)
        registry.ota.delete("u", delete_stream=True, force=True, now=now())
        store.go_on.set()
        wait_until(lambda: gone(registry), what="the end of the update")
    assert registry.count() == 0
    with pytest.raises(JobNotFound):
        registry.jobs.get("AFR_OTA-u")
    store.close()
