"""Profiles in TOML: what can be written, what cannot and what is said then, and the presets."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.links.model import LinkProfile, ProfileError, Way
from firmware_sim.links.profiles import LARGEST_FILE, find, load, parse, presets

FULL = """
[mast]
up = "375 kbit/s"
down = "1.5 MB/s"
delay = { up = "60 ms", down = "0.04 s" }
jitter = "20ms"
loss = { up = "2 %", down = 0.01 }
duplicate = 1
reorder = "0.5%"
reorder_by = "50 ms"
stall_every = "1 min"
stall_for = "1.5 s"
disconnect_every = "2 h"
queue = "64 KiB"

["a far one"]
down = "unlimited"
delay.down = "3 s"
"""


class TestParsing:
    def test_every_key(self) -> None:
        mast = LinkProfile(
            name="mast",
            up=Way(rate=46_875, delay=60, jitter=20, loss=0.02, duplicate=1, reorder=0.005, reorder_by=50),
            down=Way(rate=1.5e6, delay=40, jitter=20, loss=0.01, duplicate=1, reorder=0.005, reorder_by=50),
            stall_every=60,
            stall_for=1.5,
            disconnect_every=7200,
            queue=65_536,
        )
        far = LinkProfile(name="a far one", down=Way(delay=3000))
        assert parse(FULL) == {"mast": mast, "a far one": far}

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ('up = "60 kb/s"', "up is '60 kb/s'; it must be a number with one of bit/s, kbit/s, Mbit/s"),
            ("down = 60", "down is 60; it must be a number with one of bit/s"),
            ('up = "0 bit/s"', "up: rate is 0 byte/s; it must be from 1 to inf byte/s"),
            ('delay = "5"', "delay is '5'; it must be a number with one of ms, s, min, h, as in '20 ms'"),
            ('delay = "-5 ms"', "delay is '-5 ms'; it must be a number"),
            ('delay = "1e3 ms"', "delay is '1e3 ms'; it must be a number"),
            ('delay = { down = "2 min" }', "down: delay is 120000 ms; it must be from 0 to 60000 ms"),
            (
                'delay = { sideways = "2 ms" }',
                "delay.sideways is not known; there are delay.up and delay.down",
            ),
            ('jitter = { up = "x" }', "jitter.up is 'x'; it must be a number"),
            ('loss = "2"', "loss is '2'; it must be a number from 0 to 1 or a percentage, as in '2 %'"),
            ("loss = true", "loss is True; it must be a number from 0 to 1"),
            ('loss = "101 %"', "up: loss is 1.01; it must be from 0 to 1"),
            ("reorder = nan", "up: reorder is nan; it must be from 0 to 1"),
            ('queue = "64 KB"', "queue is '64 KB'; it must be a number with one of B, kB, KiB, MB, MiB"),
            ('queue = "2 B"', "queue is 2 bytes; it must be from 1024 to 1073741824 bytes"),
            ('stall_every = "3 s"', "stall_every is 3 s and stall_for 0 s; both must be 0, or neither"),
            ('stall_every = { up = "3 s" }', "stall_every is {'up': '3 s'}; it must be a number"),
            ('bandwidth = "3 kB/s"', "bandwidth is not known; there are up, down, delay, jitter, loss,"),
        ],
    )
    def test_an_error_names_profile_key_value_and_bound(self, line: str, told: str) -> None:
        with pytest.raises(ProfileError) as error:
            parse(f"[mast]\n{line}\n", "links.toml")
        assert str(error.value).startswith(f"links.toml: [mast] {told}")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("[mast", "links.toml is no TOML: "),
            ("mast = 3", "links.toml: mast is 3; it must be a table"),
        ],
    )
    def test_an_error_of_the_whole(self, text: str, told: str) -> None:
        with pytest.raises(ProfileError) as error:
            parse(text, "links.toml")
        assert str(error.value).startswith(told)

    @given(
        st.text(st.characters(codec="utf-8"), max_size=40), st.sampled_from(["up", "loss", "delay", "queue"])
    )
    def test_any_text_is_a_value_or_an_error(self, value: str, key: str) -> None:
        escaped = "".join(f"\\U{ord(character):08X}" for character in value)
        try:
            (profile,) = parse(f'[x]\n{key} = "{escaped}"').values()
        except ProfileError:
            return
        assert math.isfinite(profile.round_trip)


class TestFiles:
    def test_a_file_is_read_and_stands_before_the_presets(self, tmp_path: Path) -> None:
        path = tmp_path / "links.toml"
        path.write_text('[mast]\nloss = "2 %"\n[lte-m]\n')
        assert load(path)["mast"].up.loss == 0.02
        assert find("mast", path).name == "mast"
        assert find("lte-m", path) == LinkProfile(name="lte-m")
        assert find("satellite", path) == presets()["satellite"]

    def test_what_there_is_is_named(self, tmp_path: Path) -> None:
        told = "there is no link profile 'nbiot'; there are bad-wifi, lte-m, nb-iot, perfect, satellite"
        with pytest.raises(ProfileError, match=told):
            find("nbiot")

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "links.toml"
        with pytest.raises(FileNotFoundError):
            load(path)
        path.write_bytes(b"# \xff")
        with pytest.raises(ProfileError, match="is not UTF-8"):
            load(path)
        path.write_bytes(b"#" * (LARGEST_FILE + 1))
        with pytest.raises(ProfileError, match=f"is over {LARGEST_FILE} bytes long"):
            load(path)


class TestPresets:
    def test_perfect_does_nothing(self) -> None:
        assert find("perfect") == LinkProfile(name="perfect")

    @pytest.mark.parametrize("name", ["nb-iot", "lte-m", "bad-wifi", "satellite"])
    def test_a_queue_does_not_bound_the_rate(self, name: str) -> None:
        profile = find(name)
        for way in (profile.up, profile.down):
            # What is under way at full rate, and one block of 4 KiB in line.
            assert way.rate * (way.delay + way.jitter) / 1000 + 4096 < profile.queue

    def test_the_ranking_that_everybody_knows(self) -> None:
        nb_iot, lte_m, wifi, satellite = (find(name) for name in ("nb-iot", "lte-m", "bad-wifi", "satellite"))
        assert nb_iot.down.rate < lte_m.down.rate < satellite.down.rate < wifi.down.rate
        assert wifi.round_trip < lte_m.round_trip < satellite.round_trip < nb_iot.round_trip
        assert satellite.up.delay + satellite.down.delay >= 558  # RFC 2488, section 2
