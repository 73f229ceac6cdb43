"""Whatever is done in whatever order, the registry is what a dictionary would be."""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker_bridge.registry.errors import StreamExists, StreamNotFound, TooManyTags, VersionConflict
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.registry.tagging import MAX_TAGS
from broker_bridge.storage.objects import ObjectRef
from tests.registry.making import NOON

names = st.text("ab-_Z0", min_size=1, max_size=2)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
file_sets = st.lists(
    st.builds(
        StreamFile,
        st.integers(0, 255),
        st.builds(ObjectRef, texts, texts, texts, st.none() | texts),
        st.integers(0, 2**63 - 1),
    ),
    max_size=4,
    unique_by=lambda file: file.file_id,
).map(lambda files: tuple(sorted(files, key=lambda file: file.file_id)))
tag_sets = st.dictionaries(texts, texts, max_size=30)


class RegistryMachine(RuleBasedStateMachine):
    """A registry beside a model of it."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'registry.db'}"
        self.registry = Registry.open(self.url)
        self.streams: dict[str, Stream] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.now = NOON

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.registry.close()
            self.folder.cleanup()

    @rule(name=names, description=st.none() | texts, role=texts, files=file_sets, tags=tag_sets)
    def create(
        self,
        name: str,
        description: str | None,
        role: str,
        files: tuple[StreamFile, ...],
        tags: dict[str, str],
    ) -> None:
        self.now += timedelta(microseconds=1)
        arguments: dict[str, Any] = {"description": description, "role_arn": role, "files": files[::-1]}
        if name in self.streams:
            with pytest.raises(StreamExists):
                self.registry.create_stream(name, **arguments, tags=tags, now=self.now)
            return
        made = self.registry.create_stream(name, **arguments, tags=tags, now=self.now)
        self.streams[name] = Stream(name, 1, description, role, files, self.now, self.now)
        self.tags[name] = dict(tags)
        assert made == self.streams[name]

    @rule(
        name=names,
        description=st.none() | texts,
        role=st.none() | texts,
        files=st.none() | file_sets,
        expected=st.none() | st.integers(1, 3),
    )
    def update(
        self,
        name: str,
        description: str | None,
        role: str | None,
        files: tuple[StreamFile, ...] | None,
        expected: int | None,
    ) -> None:
        self.now += timedelta(microseconds=1)

        def call() -> Stream:
            return self.registry.update_stream(
                name,
                description=description,
                role_arn=role,
                files=files,
                now=self.now,
                expected_version=expected,
            )

        old = self.streams.get(name)
        if old is None:
            with pytest.raises(StreamNotFound):
                call()
            return
        if expected not in (None, old.version):
            with pytest.raises(VersionConflict):
                call()
            return
        self.streams[name] = Stream(
            name,
            old.version + 1,
            old.description if description is None else description,
            old.role_arn if role is None else role,
            old.files if files is None else files,
            old.created_at,
            self.now,
        )
        assert call() == self.streams[name]

    @rule(name=names)
    def delete(self, name: str) -> None:
        if name not in self.streams:
            with pytest.raises(StreamNotFound):
                self.registry.delete_stream(name)
            return
        self.registry.delete_stream(name)
        del self.streams[name], self.tags[name]

    @rule(name=names, tags=tag_sets)
    def tag(self, name: str, tags: dict[str, str]) -> None:
        if name not in self.streams:
            with pytest.raises(StreamNotFound):
                self.registry.tag(name, tags)
        elif len(self.tags[name] | tags) > MAX_TAGS:
            with pytest.raises(TooManyTags):
                self.registry.tag(name, tags)
        else:
            self.registry.tag(name, tags)
            self.tags[name] |= tags

    @rule(data=st.data())
    def untag(self, data: st.DataObject) -> None:
        if self.tags:
            name = data.draw(st.sampled_from(sorted(self.tags)))
            keys = data.draw(st.sets(st.sampled_from(sorted({*self.tags[name], "none"}))))
            self.registry.untag(name, keys)
            self.tags[name] = {key: value for key, value in self.tags[name].items() if key not in keys}

    @rule(after=st.none() | names, limit=st.integers(1, 4), ascending=st.booleans())
    def page(self, after: str | None, limit: int, ascending: bool) -> None:
        order = sorted(self.streams, reverse=not ascending)
        if after is not None:
            order = [name for name in order if (name > after if ascending else name < after)]
        found = self.registry.streams(after=after, limit=limit, ascending=ascending)
        assert found == [self.streams[name] for name in order[:limit]]

    @rule()
    def reopen(self) -> None:
        self.registry.close()
        self.registry = Registry.open(self.url)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "registry"):
            return
        assert self.registry.count() == len(self.streams)
        for name, stream in self.streams.items():
            assert self.registry.stream(name) == stream
            assert self.registry.tags(name) == self.tags[name]


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
