"""What the registry promises, call by call."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy.exc import IntegrityError

from broker_bridge.registry.errors import StreamExists, StreamNotFound, TooManyTags, VersionConflict
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream
from broker_bridge.registry.tagging import MAX_TAGS
from tests.registry.making import NOON, ROLE, a_file, create

LATER = NOON + timedelta(seconds=1)


def test_a_stream_comes_back_as_it_went_in(registry: Registry, url: str) -> None:
    files = (a_file(255, size=2**63 - 1), a_file(3, size=0), a_file(0, "e0", version_id="v7"))
    made = registry.create_stream(
        "s", description=None, role_arn=ROLE, files=files, tags={"ключ": "", "a": "b"}, now=NOON
    )
    assert made == Stream("s", 1, None, ROLE, files[::-1], NOON, NOON)
    assert registry.stream("s") == made
    registry.close()
    again = Registry.open(url)
    assert again.stream("s") == made
    assert again.tags("s") == {"ключ": "", "a": "b"}
    assert again.count() == 1
    again.close()


def test_a_moment_of_any_zone_comes_back_in_utc(registry: Registry) -> None:
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=45)))
    made = registry.create_stream("s", description=None, role_arn=ROLE, files=(), tags={}, now=local)
    assert made.created_at == NOON
    assert made.created_at.utcoffset() == timedelta(0)


def test_a_moment_without_a_zone_is_refused_and_nothing_kept(registry: Registry) -> None:
    with pytest.raises(Exception, match="has no time zone"):
        registry.create_stream(
            "s", description=None, role_arn=ROLE, files=(), tags={}, now=datetime(2026, 1, 1)
        )
    assert registry.count() == 0


def test_creating_twice_is_refused_and_keeps_the_first(registry: Registry) -> None:
    first = create(registry, "s", a_file(etag="first"), kept="yes")
    with pytest.raises(StreamExists, match="s exists") as caught:
        create(registry, "s", a_file(etag="second"), other="tag")
    assert caught.value.stream_id == "s"
    assert registry.stream("s") == first
    assert registry.tags("s") == {"kept": "yes"}


def test_a_file_id_twice_is_refused_and_nothing_kept(registry: Registry) -> None:
    with pytest.raises(IntegrityError):
        create(registry, "s", a_file(1), a_file(1, "other"))
    assert registry.count() == 0


def test_an_update_raises_the_version_and_changes_what_is_given(registry: Registry) -> None:
    made = create(registry, "s", a_file(0), a_file(1), kept="yes")
    second = registry.update_stream("s", description="new", role_arn=None, files=None, now=LATER)
    assert second == Stream("s", 2, "new", ROLE, made.files, NOON, LATER)
    third = registry.update_stream(
        "s", description=None, role_arn="other", files=(a_file(7, "e7"),), now=LATER, expected_version=2
    )
    assert third == Stream("s", 3, "new", "other", (a_file(7, "e7"),), NOON, LATER)
    assert registry.stream("s") == third
    assert registry.tags("s") == {"kept": "yes"}


def test_an_update_of_another_version_is_refused(registry: Registry) -> None:
    made = create(registry, "s")
    with pytest.raises(VersionConflict, match="at version 1, not at 2"):
        registry.update_stream("s", description="x", role_arn=None, files=(), now=LATER, expected_version=2)
    assert registry.stream("s") == made


def test_a_deleted_stream_is_gone_and_its_id_starts_anew(registry: Registry) -> None:
    create(registry, "s", a_file(0), a_file(1), old="tag")
    registry.update_stream("s", description="x", role_arn=None, files=None, now=LATER)
    create(registry, "other", kept="yes")
    registry.delete_stream("s")
    assert registry.count() == 1
    made = create(registry, "s", a_file(5))
    assert made.version == 1
    assert made.files == (a_file(5),)
    assert registry.tags("s") == {}
    assert registry.tags("other") == {"kept": "yes"}


def test_every_call_on_a_stream_that_is_not_there_says_so(registry: Registry) -> None:
    create(registry, "other")
    calls: list[Callable[[], object]] = [
        lambda: registry.stream("s"),
        lambda: registry.update_stream("s", description="x", role_arn=None, files=None, now=LATER),
        lambda: registry.delete_stream("s"),
        lambda: registry.tag("s", {"a": "b"}),
        lambda: registry.untag("s", ["a"]),
        lambda: registry.tags("s"),
    ]
    for call in calls:
        with pytest.raises(StreamNotFound, match="no stream s"):
            call()
    assert registry.count() == 1


def test_tags_are_merged_and_removed_by_key(registry: Registry) -> None:
    create(registry, "s", a="1", b="2")
    registry.tag("s", {"b": "3", "c": "4"})
    assert registry.tags("s") == {"a": "1", "b": "3", "c": "4"}
    registry.untag("s", ["a", "never there"])
    registry.tag("s", {})
    assert registry.tags("s") == {"b": "3", "c": "4"}
    assert registry.stream("s").version == 1


def test_the_fifty_first_tag_is_refused(registry: Registry) -> None:
    full = {f"k{i}": "v" for i in range(MAX_TAGS)}
    with pytest.raises(TooManyTags, match="51 tags; at most 50"):
        create(registry, "s", **full, more="v")
    assert registry.count() == 0
    create(registry, "s", **full)
    registry.tag("s", {"k0": "changed"})
    with pytest.raises(TooManyTags):
        registry.tag("s", {"more": "v"})
    assert registry.tags("s") == full | {"k0": "changed"}


@pytest.mark.parametrize("ascending", [True, False])
def test_pages_hold_every_stream_once_in_order(registry: Registry, ascending: bool) -> None:
    names = ["A", "Z", "_", "a", "a-", "a0", "aa", "b", "z"]  # by code point this is not their order
    for count, name in enumerate(names):
        create(registry, name, *(a_file(i, name) for i in range(count)))
    seen: list[Stream] = []
    while page := registry.streams(after=seen[-1].stream_id if seen else None, limit=2, ascending=ascending):
        assert len(page) <= 2
        seen += page
    assert [stream.stream_id for stream in seen] == sorted(names, reverse=not ascending)
    assert seen == [registry.stream(stream.stream_id) for stream in seen]
    between = registry.streams(after="a1", limit=2, ascending=ascending)
    assert [stream.stream_id for stream in between] == (["aa", "b"] if ascending else ["a0", "a-"])
    with pytest.raises(ValueError, match="limit is 0"):
        registry.streams(after=None, limit=0, ascending=ascending)


def test_a_secret_is_made_once_and_kept(registry: Registry, url: str) -> None:
    first = registry.secret("paging")
    assert len(first) == 32
    assert registry.secret("paging") == first
    assert registry.secret("other") != first
    registry.close()
    again = Registry.open(url)
    assert again.secret("paging") == first
    again.close()


def test_listeners_hear_of_each_change_after_it_stands(registry: Registry) -> None:
    heard: list[tuple[str, bool]] = []
    registry.on_change(lambda stream_id: heard.append((stream_id, bool(registry.count()))))
    create(registry, "s")
    registry.update_stream("s", description="x", role_arn=None, files=None, now=LATER)
    registry.tag("s", {"a": "b"})
    registry.untag("s", ["a"])
    with pytest.raises(StreamExists):
        create(registry, "s")
    registry.secret("made")
    registry.delete_stream("s")
    assert heard == [("s", True)] * 4 + [("s", False)]
