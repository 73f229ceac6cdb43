"""Where a pace comes from: entries of the settings, tags of the stream."""

import asyncio
from pathlib import Path

import pytest

from broker_bridge.api.iot.errors import InvalidRequestException
from broker_bridge.api.iot.tags import tag_values
from broker_bridge.delivery.pacing import Paces
from broker_bridge.pace import GAP_TAG, RATE_TAG, Pace, from_tags
from broker_bridge.registry.registry import Registry
from broker_bridge.settings import BrokerSettings, PaceRule, ServiceSettings
from sluice.failure import SettingsError
from sluice.loading import load
from tests.delivery.making import NOW, make_stream
from tests.delivery.running import SMALL, bench, content

RULES = (
    PaceRule(things=("mast-9",)),
    PaceRule(things=("mast-*", "pole-?"), bytes_per_second=65536),
    PaceRule(things=("*",), streams=("radio-*",), gap=0.05),
)


@pytest.mark.parametrize(
    ("thing", "stream", "pace"),
    [
        ("mast-1", "main", Pace(65536)),
        ("pole-1", "radio-1", Pace(65536)),
        ("mast-9", "radio-1", None),
        ("pole-10", "radio-1", Pace(gap=0.05)),
        ("pole-10", "main", None),
    ],
)
def test_the_first_entry_that_matches_thing_and_stream_decides(
    thing: str, stream: str, pace: Pace | None
) -> None:
    assert Paces(RULES).of(thing, make_stream(stream)) == pace


def test_tags_and_settings_are_both_kept_to(tmp_path: Path) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path / 'registry.db'}")
    arguments = {"description": None, "role_arn": "arn", "files": (), "now": NOW}
    made = registry.create_stream("radio-1", tags={RATE_TAG: "32 KiB", "other": "x"}, **arguments)  # type: ignore[arg-type]
    assert made.pace == Pace(32768)
    assert registry.stream("radio-1") == made
    paces = Paces(RULES)
    assert paces.of("mast-1", made) == Pace(32768)
    assert paces.of("mast-9", made) == Pace(32768)
    assert paces.of("other", made) == Pace(32768, 0.05)
    registry.tag("radio-1", {RATE_TAG: "1 MB", GAP_TAG: "0.2"})
    tagged = registry.stream("radio-1")
    assert tagged.pace == Pace(1_000_000, 0.2)
    assert paces.of("mast-1", tagged) == Pace(65536, 0.2)
    assert paces.of("other", tagged) == Pace(1_000_000, 0.2)
    assert Paces(()).of("other", tagged) == tagged.pace
    registry.untag("radio-1", [RATE_TAG])
    assert registry.stream("radio-1").pace == Pace(gap=0.2)
    registry.untag("radio-1", [GAP_TAG])
    assert registry.stream("radio-1").pace is None
    # What the API would not take, but what may have been there before it knew.
    registry.tag("radio-1", {RATE_TAG: "quick"})
    assert registry.stream("radio-1").pace is None
    registry.close()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (RATE_TAG, "", "'sluice:bytes-per-second' is ''; it must be a number of bytes"),
        (RATE_TAG, "64 KiB/s", "it must be a number of bytes, as in"),
        (RATE_TAG, "255", "'sluice:bytes-per-second' is '255'; it must be from 256 to 1099511627776"),
        (RATE_TAG, "2 TiB", "it must be from 256 to"),
        (GAP_TAG, "50 ms", "'sluice:block-gap' is '50 ms'; it must be seconds, from 0 to 60"),
        (GAP_TAG, "-0.1", "from 0 to 60"),
        (GAP_TAG, "nan", "from 0 to 60"),
        (GAP_TAG, "60.1", "from 0 to 60"),
        ("sluice:bytes-per-secnd", "1 MB", "'sluice:bytes-per-secnd' is none of Sluice's tags"),
    ],
)
def test_a_tag_that_cannot_be_kept_to_is_refused(key: str, value: str, message: str) -> None:
    with pytest.raises(InvalidRequestException) as caught:
        tag_values([{"Key": "a", "Value": "b"}, {"Key": key, "Value": value}])
    assert "tags[1]: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "pace"),
    [
        ({RATE_TAG: "256"}, Pace(256)),
        ({RATE_TAG: "1 TiB", GAP_TAG: "60"}, Pace(1 << 40, 60)),
        ({GAP_TAG: "0.001"}, Pace(gap=0.001)),
        ({"sluice": "x", "other": "y"}, None),
    ],
)
def test_tags_that_are_taken(tags: dict[str, str], pace: Pace | None) -> None:
    assert tag_values([{"Key": key, "Value": value} for key, value in tags.items()]) == tags
    assert from_tags(tags) == pace


def test_settings_from_file_and_environment(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text(
        '[broker]\nbytes_per_second = "2 MB"\n'
        '[[pace]]\nthings = ["mast-*"]\nbytes_per_second = "64 KiB"\n'
        '[[pace]]\nstreams = ["a", "b"]\ngap = 1\n'
    )
    settings = load({}, environ={}, folder=tmp_path).settings
    assert settings.broker.bytes_per_second == 2_000_000
    assert settings.pace == (
        PaceRule(things=("mast-*",), bytes_per_second=65536),
        PaceRule(streams=("a", "b"), gap=1.0),
    )
    environ = {"SLUICE_PACE": '[{"gap": 0.5}]', "SLUICE_BROKER_BYTES_PER_SECOND": "1 MiB"}
    settings = load({}, environ=environ, folder=tmp_path).settings
    assert settings.pace == (PaceRule(gap=0.5),)
    assert settings.broker.bytes_per_second == 1 << 20


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "pace = [{rate = 3}]",
            "it must be a list of tables with any of things, streams, bytes_per_second, gap",
        ),
        ("pace = [{gap = 'x'}]", "it must be a list of tables whose gap is a number"),
        (
            "pace = [{bytes_per_second = '3 KB/s'}]",
            "tables whose bytes_per_second is a number of bytes, as in",
        ),
        ("pace = [{things = 'mast'}]", "it must be a list of tables whose things is a list"),
        ("pace = [{bytes_per_second = 3}]", "pace[0].bytes_per_second is 3; it must be from 256 to"),
        ("pace = [{}, {gap = 61}]", "pace[1].gap is 61.0; it must be from 0.0 to 60.0"),
        ("broker.bytes_per_second = 255", "broker.bytes_per_second is 255; it must be from 256 to"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "sluice.toml").write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load({}, environ={}, folder=tmp_path)
    assert message in str(caught.value)


def test_a_tag_counts_for_requests_that_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as running:
            loop = asyncio.get_running_loop()
            data = content(100 * 256)
            running.create("slow", {0: data})
            # One block, and then none for a minute: unless the tag's going frees the rest.
            running.registry.tag("slow", {GAP_TAG: "60"})
            running.get("thing", "slow", l=256, n=100)
            await running.until(lambda: running.blocks("thing"))
            began = loop.time()
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert len(running.blocks("thing")) == 1
            running.registry.untag("slow", [GAP_TAG])
            await running.until(lambda: len(running.blocks("thing")) == 100)
            assert loop.time() - began < 60
            assert b"".join(block["p"] for block in running.blocks("thing")) == data

    asyncio.run(scenario())


def test_a_pace_is_kept_by_the_clock(tmp_path: Path) -> None:
    # No sooner than it says; how much later is the machine's affair, and the simulation's in test_pacing.
    settings = ServiceSettings(
        cache=SMALL,
        pace=(PaceRule(things=("slow-*",), bytes_per_second=64_000),),
        broker=BrokerSettings(bytes_per_second=1_000_000),
    )

    async def scenario() -> None:
        async with bench(tmp_path, settings=settings) as running:
            loop = asyncio.get_running_loop()
            data = {stream: content(32_000, seed) for seed, stream in enumerate(("a", "b"))}
            for stream, file in data.items():
                running.create(stream, {0: file})
            began = loop.time()
            for thing, stream in (("slow-1", "a"), ("slow-2", "b"), ("quick", "a")):
                running.get(thing, stream, l=1000)
            await running.until(lambda: len(running.blocks("quick")) == 32)
            assert len(running.blocks("slow-1")) < 32
            await running.settle()
            assert loop.time() - began >= 31 / 64 - 0.02
            for thing, stream in (("slow-1", "a"), ("slow-2", "b"), ("quick", "a")):
                assert b"".join(block["p"] for block in running.blocks(thing)) == data[stream]

    asyncio.run(scenario())
