"""Objects in folders: whose bytes they are, and that no key leaves its bucket."""

import dataclasses
import hashlib
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker_bridge.storage import folder as folder_module
from broker_bridge.storage.folder import FolderStore, settling_ns
from broker_bridge.storage.objects import (
    BucketMissing,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    ObjectRef,
    StorageError,
    StoreUnavailable,
)
from tests.support.waiting import wait_until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "objects" / "b").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> FolderStore:
    return FolderStore(root)


def ref_of(store: FolderStore, key: str, bucket: str = "b") -> ObjectRef:
    return ObjectRef(bucket, key, store.head(bucket, key).etag)


def put(store: FolderStore, key: str, data: bytes, bucket: str = "b") -> ObjectRef:
    return ObjectRef(bucket, key, store.put(bucket, key, io.BytesIO(data), len(data)).etag)


def test_etag_is_the_md5_and_reads_are_exact(store: FolderStore, root: Path) -> None:
    data = os.urandom(300_001)
    (root / "b" / "fw.bin").write_bytes(data)
    info = store.head("b", "fw.bin")
    assert (info.size, info.etag) == (len(data), hashlib.md5(data).hexdigest())
    ref = ref_of(store, "fw.bin")
    assert store.read(ref, 0, len(data)) == data
    assert store.read(ref, 300_000, 1) == data[-1:]
    assert store.read(ref, 131_072, 0) == b""


def test_reads_near_the_end_of_a_large_file(store: FolderStore, root: Path) -> None:
    size = 1 << 27
    with (root / "b" / "huge").open("wb") as file:
        file.seek(size - 5)
        file.write(b"hello")
    ref = ref_of(store, "huge")
    assert store.check_quick(ref)
    assert store.read(ref, size - 7, 7) == b"\0\0hello"


def test_an_empty_file_is_an_object(store: FolderStore) -> None:
    ref = put(store, "empty", b"")
    assert store.head("b", "empty").size == 0
    store.check(ref)


# --- freshness


def test_quick_check_is_true_only_of_what_was_hashed(store: FolderStore) -> None:
    ref = put(store, "f", b"one")
    assert not store.check_quick(ref)
    store.check(ref)
    assert store.check_quick(ref)
    assert not store.check_quick(ObjectRef("b", "f", "0" * 32))
    assert not store.check_quick(ObjectRef("b", "g", ref.etag))
    assert not store.check_quick(ObjectRef("b", "f", ref.etag, "v1"))


def test_memory_of_etags_is_bounded_and_what_was_used_last_stays(root: Path) -> None:
    store = FolderStore(root, remembered=2)
    refs = [put(store, name, name.encode()) for name in "abc"]
    store.check(refs[0])
    store.check(refs[1])
    assert store.check_quick(refs[0])
    store.check(refs[2])
    assert [store.check_quick(ref) for ref in refs] == [True, False, True]
    store.check(refs[1])


def overwrite(path: Path) -> None:
    path.write_bytes(b"two")


def replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"two")
    path.with_name("new").rename(path)


def truncate(path: Path) -> None:
    os.truncate(path, 1)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def overwrite_and_restore_mtime(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def through_a_hard_link(path: Path) -> None:
    path.with_name("alias").hardlink_to(path)
    path.with_name("alias").write_bytes(b"two")


@pytest.mark.parametrize(
    "change", [overwrite, replace, truncate, append, overwrite_and_restore_mtime, through_a_hard_link]
)
def test_changed_content_is_noticed_at_once(store: FolderStore, root: Path, change: object) -> None:
    assert callable(change)
    ref = put(store, "f", b"one")
    store.check(ref)
    change(root / "b" / "f")
    assert not store.check_quick(ref)
    with pytest.raises(ObjectChanged):
        store.check(ref)
    with pytest.raises(ObjectChanged):
        store.read(ref, 0, 3)
    (root / "b" / "f").write_bytes(b"one")
    store.check(ref)
    assert store.read(ref, 0, 3) == b"one"


def test_the_same_content_written_again_is_no_change(store: FolderStore, root: Path, tmp_path: Path) -> None:
    path = root / "b" / "f"
    ref = put(store, "f", b"one")
    store.check(ref)
    path.touch()
    assert not store.check_quick(ref)
    store.check(ref)
    assert store.check_quick(ref)
    (tmp_path / "copy").write_bytes(b"one")
    shutil.copy(tmp_path / "copy", path)
    assert store.read(ref, 0, 3) == b"one"
    put(store, "f", b"one")
    assert store.read(ref, 1, 2) == b"ne"


@pytest.mark.parametrize("tick_ns", [1, 10_000_000])
def test_no_two_versions_of_a_file_share_an_etag_however_fast_they_follow(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch, tick_ns: int
) -> None:
    """Same size, same inode, and within one tick of the clock that stamps files.

    This kernel may stamp finer than others do; so its stamps are taken as the coarsest would have made them.
    """
    exact = folder_module._identity

    def ticking(now: os.stat_result) -> folder_module._Identity:
        device, inode, size, mtime_ns, ctime_ns = exact(now)
        return folder_module._Identity(
            device, inode, size, mtime_ns // tick_ns * tick_ns, ctime_ns // tick_ns * tick_ns
        )

    monkeypatch.setattr(folder_module, "_identity", ticking)
    path = root / "b" / "f"
    for number in range(10):
        data = b"%03d" % number
        path.write_bytes(data)
        ref = ref_of(store, "f")
        assert ref.etag == hashlib.md5(data).hexdigest()
        path.write_bytes(b"new")
        with pytest.raises(ObjectChanged):
            store.read(ref, 0, 3)


@given(age_ms=st.integers(-10_000, 10_000), fine=st.booleans())
def test_a_hash_waits_for_the_stamp_to_be_past(age_ms: int, fine: bool) -> None:
    ctime = 1_700_000_000_000_000_000 + (123_456_789 if fine else 0)
    now = ctime + age_ms * 1_000_000
    wait = settling_ns(ctime, now)
    tick = 10_000_000 if fine else 2_000_000_000
    assert 0 <= wait <= 2 * 2_050_000_000
    if abs(age_ms) * 1_000_000 <= tick:
        assert now + wait - ctime > tick
    if abs(age_ms) > 2_050:
        assert wait == 0


def test_a_file_that_keeps_changing_is_no_object_yet(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "b" / "f"
    path.write_bytes(b"one")
    ref = ref_of(store, "f")
    hashed = folder_module._md5

    def while_hashing(descriptor: int) -> str:
        digest = hashed(descriptor)
        path.touch()
        return digest

    monkeypatch.setattr(folder_module, "_md5", while_hashing)
    path.touch()
    with pytest.raises(StoreUnavailable, match="keeps changing"):
        store.head("b", "f")
    with pytest.raises(ObjectChanged, match="keeps changing"):
        store.check(ref)
    with pytest.raises(ObjectChanged, match="keeps changing"):
        store.read(ref, 0, 1)
    monkeypatch.undo()
    assert store.read(ref, 0, 3) == b"one"


@pytest.mark.parametrize("change", [overwrite, replace, truncate])
def test_a_change_in_the_middle_of_a_read_is_noticed(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    assert callable(change)
    ref = put(store, "f", b"one")
    store.check(ref)
    read = folder_module._pread

    def while_reading(descriptor: int, start: int, length: int) -> bytes:
        data = read(descriptor, start, length)
        change(root / "b" / "f")
        return data

    monkeypatch.setattr(folder_module, "_pread", while_reading)
    with pytest.raises(ObjectChanged):
        store.read(ref, 0, 3)


def test_reads_while_writers_alternate_never_mix(store: FolderStore, root: Path) -> None:
    size = 400_000
    versions = [bytes([letter]) * size for letter in b"AB"]
    ref = put(store, "f", versions[0])
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            if turn % 3:
                put(FolderStore(root), "f", versions[turn % 2])
            else:
                (root / "b" / "f").write_bytes(versions[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    outcomes: set[bool | None] = set()

    def step() -> bool:
        try:
            outcomes.add(store.read(ref, 0, size) == versions[0])
        except (ObjectChanged, ObjectMissing):
            outcomes.add(None)
        return len(outcomes) > 2 or None in outcomes

    try:
        wait_until(step, what="a change met in reading")
        for _ in range(10):
            step()
    finally:
        stop.set()
        writer.join()
    assert False not in outcomes
    put(store, "f", versions[0])
    assert store.read(ref, 0, size) == versions[0]


def test_vanished_objects_and_buckets(store: FolderStore, root: Path) -> None:
    ref = put(store, "d/f", b"one")
    store.check(ref)
    (root / "b" / "d" / "f").unlink()
    assert not store.check_quick(ref)
    for call in (lambda: store.check(ref), lambda: store.read(ref, 0, 1), lambda: store.head("b", "d/f")):
        with pytest.raises(ObjectMissing):
            call()
    shutil.rmtree(root / "b")
    with pytest.raises(BucketMissing):
        store.check(ref)
    with pytest.raises(BucketMissing):
        store.head("nowhere", "f")
    shutil.rmtree(root)
    with pytest.raises(BucketMissing):
        store.head("b", "f")


def test_folders_have_no_versions(store: FolderStore) -> None:
    ref = put(store, "f", b"one")
    with pytest.raises(ObjectMissing, match="folders keep no versions"):
        store.head("b", "f", "v1")
    pinned = ObjectRef("b", "f", ref.etag, "v1")
    with pytest.raises(ObjectMissing, match="folders keep no versions"):
        store.check(pinned)
    with pytest.raises(ObjectMissing, match="folders keep no versions"):
        store.read(pinned, 0, 1)


def test_a_length_past_the_end_is_refused(store: FolderStore) -> None:
    ref = put(store, "f", b"one")
    with pytest.raises(ObjectChanged):
        store.read(ref, 1, 3)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A root whose permissions count, also where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "b").mkdir()
        (Path(name) / "b").chmod(0o755)
        yield Path(name)


def test_permission_denied_is_forbidden(unprivileged: Path) -> None:
    store = FolderStore(unprivileged)
    ref = put(store, "d/f", b"one")
    store.check(ref)
    file = unprivileged / "b" / "d" / "f"
    file.chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        for call in (
            lambda: store.check(ref),
            lambda: store.read(ref, 0, 1),
            lambda: store.head("b", "d/f"),
        ):
            with pytest.raises(ObjectForbidden):
                call()
        if before == 0:
            with pytest.raises(ObjectForbidden):
                put(store, "d/g", b"no")
    finally:
        os.seteuid(before)
    file.chmod(0o644)
    assert store.read(ref, 0, 3) == b"one"


# --- names


BAD_KEYS = [
    "",
    "/",
    ".",
    "..",
    "../secret",
    "d/../../secret",
    "d/../f",
    "./f",
    "d//f",
    "/etc/passwd",
    "f/",
    "f/.",
    "f/..",
    "nul\0",
    "\ud800",
    "f\udcff",
    ".sluice-tmp-0123",
    "d/.sluice-tmp-0123",
    ".sluice-tmp-d/f",
    "x" * 256,
    "/".join(["x" * 200] * 6),
    "d",
    "f/under-a-file",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_keys_that_are_none(store: FolderStore, root: Path, key: str) -> None:
    put(store, "f", b"one")
    put(store, "d/f", b"one")
    for hidden in (".sluice-tmp-0123", "d/.sluice-tmp-0123"):
        (root / "b" / hidden).write_bytes(b"half")
    with pytest.raises(ObjectMissing):
        store.head("b", key)
    ref = ObjectRef("b", key, hashlib.md5(b"secret").hexdigest())
    assert not store.check_quick(ref)
    with pytest.raises(ObjectMissing):
        store.read(ref, 0, 1)
    before = sorted(path for path in root.parent.rglob("*"))
    with pytest.raises(ObjectForbidden):
        store.put("b", key, io.BytesIO(b"new"), 3)
    assert sorted(path for path in root.parent.rglob("*")) == before


@pytest.mark.parametrize("bucket", ["", ".", "..", "b/d", "/", "nul\0", "\ud800", "x" * 256, ".sluice-tmp-b"])
def test_buckets_that_are_none(store: FolderStore, bucket: str) -> None:
    put(store, "d/f", b"one")
    with pytest.raises(BucketMissing):
        store.head(bucket, "f")
    with pytest.raises(ObjectForbidden):
        store.put(bucket, "f", io.BytesIO(b"new"), 3)


@pytest.mark.parametrize(
    "key",
    ["ü/ö", "a b", "a\nb", "-rf", "%2e%2e/x", "...", "..a", ".hidden", "C:\\x", "emoji 🚀", "x" * 255, "*"],
)
def test_odd_keys_that_are_fine(store: FolderStore, key: str) -> None:
    ref = put(store, key, b"odd")
    assert store.read(ref, 0, 3) == b"odd"
    store.check(ref)
    assert store.check_quick(ref)


def test_a_key_as_long_as_s3_allows(store: FolderStore) -> None:
    key = "/".join(["x" * 204] * 5)
    assert len(key) == 1024
    assert store.read(put(store, key, b"long"), 0, 4) == b"long"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.sampled_from("./\0~ab\\é\udc80") | st.characters(), max_size=12))
def test_no_key_reads_outside_of_its_bucket(store: FolderStore, root: Path, key: str) -> None:
    (root / "f").write_bytes(b"outside")
    try:
        info = store.put("b", key, io.BytesIO(b"inside"), 6)
    except StorageError as error:
        assert isinstance(error, ObjectForbidden)  # noqa: PT017
        with pytest.raises(StorageError):
            store.head("b", key)
    else:
        assert store.read(ObjectRef("b", key, info.etag), 0, 6) == b"inside"
    assert sorted(path.name for path in root.iterdir()) == ["b", "f"]
    assert (root.parent / "secret").read_bytes() == b"secret"


# --- links and other things that are no regular files


def test_links_that_stay_inside_are_followed(store: FolderStore, root: Path) -> None:
    put(store, "v1/fw", b"one")
    (root / "b" / "current").symlink_to("v1")
    (root / "b" / "latest").symlink_to("current/fw")
    for key in ("current/fw", "latest"):
        ref = ref_of(store, key)
        assert store.read(ref, 0, 3) == b"one"
        assert store.check_quick(ref)
    put(store, "v2/fw", b"two")
    ref = ref_of(store, "latest")
    (root / "b" / "current").unlink()
    (root / "b" / "current").symlink_to("v2")
    assert not store.check_quick(ref)
    with pytest.raises(ObjectChanged):
        store.check(ref)


def test_links_that_lead_out_are_not(store: FolderStore, root: Path) -> None:
    secret = root.parent / "secret"
    put(store, "f", b"other bucket", bucket="c")
    (root / "b" / "absolute").symlink_to(secret)
    (root / "b" / "relative").symlink_to("../../secret")
    (root / "b" / "folder").symlink_to(root.parent)
    (root / "b" / "neighbour").symlink_to("../c/f")
    (root / "b" / "twice").symlink_to("absolute")
    (root / "b" / "itself").symlink_to(".")
    (root / "b" / "round").symlink_to("round")
    (root / "b" / "nowhere").symlink_to("gone")
    (root / "b" / ".sluice-tmp-x").write_bytes(b"half")
    (root / "b" / "half").symlink_to(".sluice-tmp-x")
    keys = ["absolute", "relative", "folder/secret", "neighbour", "twice", "itself", "round", "round/x"]
    keys += ["nowhere", "half"]
    for key in keys:
        with pytest.raises(ObjectMissing):
            store.head("b", key)
    with pytest.raises(ObjectForbidden):
        put(store, "folder/new", b"no")
    assert not (root.parent / "new").exists()
    # What is written in a link's place takes its place.
    put(store, "absolute", b"mine")
    assert secret.read_bytes() == b"secret"
    assert not (root / "b" / "absolute").is_symlink()


def test_a_bucket_that_leads_out_is_none_and_the_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (root / "b" / "f").write_bytes(b"one")
    (root / "alias").symlink_to("b")
    (root / "out").symlink_to(tmp_path)
    (root / "self").symlink_to(".")
    (tmp_path / "link").symlink_to(root)
    store = FolderStore(tmp_path / "link")
    assert store.read(ref_of(store, "f"), 0, 3) == b"one"
    assert store.head("alias", "f").size == 3
    for bucket in ("out", "self"):
        with pytest.raises(BucketMissing):
            store.head(bucket, "f")
        with pytest.raises(ObjectForbidden):
            put(store, "f", b"no", bucket=bucket)


def test_a_folder_swapped_for_a_link_after_the_look_is_not_followed(
    store: FolderStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race, made certain: the swap happens between resolving and opening."""
    put(store, "d/secret", b"public")
    from broker_bridge.storage import paths

    resolve = paths.resolve

    def then_swap(*arguments: object, **options: object) -> paths.Place:
        place = resolve(*arguments, **options)  # type: ignore[arg-type]
        (root / "b" / "d").rename(root / "b" / "moved")
        (root / "b" / "d").symlink_to(tmp_path)
        return place

    monkeypatch.setattr(paths, "resolve", then_swap)
    with pytest.raises(ObjectMissing):
        store.head("b", "d/secret")


def test_only_regular_files_are_objects_and_none_hangs(store: FolderStore, root: Path) -> None:
    os.mkfifo(root / "b" / "fifo")
    (root / "b" / "folder").mkdir()
    (root / "b" / "null").symlink_to("/dev/null")
    for key in ("fifo", "folder", "null"):
        with pytest.raises(ObjectMissing):
            store.head("b", key)


def test_a_path_longer_than_the_system_takes_in_one_go(tmp_path: Path) -> None:
    """A key of 1024 bytes below a root of 3500: more than any one call would take."""
    deep = tmp_path
    while len(os.fsencode(deep)) < 3500:
        deep = deep / ("r" * 250)
    store = FolderStore(deep)
    ref = put(store, "/".join(["x" * 204] * 5), b"long")
    store.check(ref)
    assert store.read(ref, 0, 4) == b"long"
    assert not store.check_quick(ref)


# --- put


def test_put_makes_bucket_and_folders_and_leaves_nothing_else(root: Path) -> None:
    store = FolderStore(root / "new")
    ref = put(store, "a/b/f", b"one", bucket="fresh")
    assert store.head("fresh", "a/b/f").etag == ref.etag == hashlib.md5(b"one").hexdigest()
    put(store, "a/b/f", b"two", bucket="fresh")
    assert [path.name for path in (root / "new").rglob("*")] == ["fresh", "a", "b", "f"]


def test_a_put_that_fails_leaves_the_old_object(store: FolderStore, root: Path) -> None:
    ref = put(store, "f", b"old")

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise RuntimeError("the source failed")
            return super().read(2)

    with pytest.raises(ValueError, match="after 3 of 4 bytes"):
        store.put("b", "f", io.BytesIO(b"new"), 4)
    with pytest.raises(RuntimeError, match="the source failed"):
        store.put("b", "f", Failing(b"new"), 3)
    assert store.read(ref, 0, 3) == b"old"
    assert [path.name for path in (root / "b").iterdir()] == ["f"]


def test_put_takes_only_as_much_as_it_was_told(store: FolderStore) -> None:
    source = io.BytesIO(b"onetwo")
    assert store.put("b", "f", source, 3).etag == hashlib.md5(b"one").hexdigest()
    assert source.read() == b"two"


def test_a_full_disk_is_the_stores_failure(store: FolderStore, root: Path) -> None:
    import resource
    import signal

    ref = put(store, "f", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StoreUnavailable):
            put(store, "f", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.read(ref, 0, 3) == b"old"
    assert [path.name for path in (root / "b").iterdir()] == ["f"]


def test_a_big_file_is_hashed_once_by_many_threads(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = put(store, "f", bytes(1_000_000))
    hashed = folder_module._md5
    calls = []

    def counted(descriptor: int) -> str:
        calls.append(descriptor)
        return hashed(descriptor)

    monkeypatch.setattr(folder_module, "_md5", counted)
    threads = [threading.Thread(target=store.check, args=(ref,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_no_descriptor_is_left_open(store: FolderStore, root: Path) -> None:
    put(store, "d/f", b"one")
    os.mkfifo(root / "b" / "fifo")
    descriptors = Path("/dev/fd")

    def everything() -> None:
        ref = ref_of(store, "d/f")
        store.check(ref)
        store.read(ref, 0, 3)
        put(store, "d/e/f", b"one")
        for key in ("d", "fifo", "gone/f", "d/f/x"):
            with pytest.raises(ObjectMissing):
                store.head("b", key)
        with pytest.raises(ObjectForbidden):
            put(store, "d", b"no")

    everything()
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        everything()
    assert len(list(descriptors.iterdir())) == before


def test_what_the_kernel_has_is_read_without_waiting_and_nothing_else(store: FolderStore, root: Path) -> None:
    data = bytes(range(256)) * 1200
    ref = put(store, "quick.bin", data)
    store.check(ref)
    for start, length in ((0, len(data)), (1, 4095), (len(data) - 1, 1), (7, 0)):
        # None on a file system that cannot tell what is in memory.
        assert store.read_quick(ref, start, length) in (None, data[start : start + length])
    assert store.read_quick(ref, 0, len(data) + 1) is None
    assert store.read_quick(dataclasses.replace(ref, etag="another"), 0, 1) is None
    assert store.read_quick(dataclasses.replace(ref, key="none.bin"), 0, 1) is None
    (root / "b" / "quick.bin").write_bytes(data[::-1])
    assert store.read_quick(ref, 0, 1) is None
