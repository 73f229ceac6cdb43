"""What the simulators can be told. What makes sense is theirs to say: it is checked where it is used."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSettings:
    """For `sluice sim`; the stream, the file and the broker are those of the other commands."""

    devices: int = 100
    """Devices of `sim fleet` and `sim update`, 1 to 20000."""
    thing_prefix: str = "sim-"
    """How the names of its things begin: of `a-z A-Z 0-9 : _ -`; a number follows."""
    profile: str = "mixed"
    """Kind of its devices, or a mix of kinds: [simulators.md](simulators.md)."""
    profile_file: Path | None = None
    """TOML file with further kinds of devices."""
    link: str = "perfect"
    """Kind of the link between devices and broker: [links.md](links.md)."""
    link_file: Path | None = None
    """TOML file with further kinds of links."""
    ramp: float = 10.0
    """Seconds over which the devices of a fleet start, 0 to 86400."""
    patience: float | None = None
    """Seconds without anything new after which a device of a fleet gives up; not set: its profile says it."""
    seed: int = 0
    """What is left to chance follows from it."""
    plot: Path | None = None
    """Where `sim fleet` and `sim update` draw the run, `.png` or `.svg`. Needs the extra `sim`."""
    public_key: Path | None = None
    """Key (PEM, ECDSA on P-256) that the devices of `sim update` verify images with; not set: the public half
    of `signing_key`."""
    fail_self_test: str = "0%"
    """Share of its devices that find in a test boot that the new version does not work, `0%` to `100%`."""
    power_cuts: str = "0%"
    """Share of its devices whose power fails, at each of four moments of their update, `0%` to `100%`."""
    listen: str = "127.0.0.1:1884"
    """Where the relay of `sim link` listens, host:port; port 0 takes a free one."""
    update: str = "good"
    """What `sim power` installs: `good`, `forged`, `rotten`, `truncated`, `older` or `silent`; `sim board`:
    `good`, `forged`, `older` or `silent`."""
    ota: bool = False
    """The image of `sim board` and `sim power` comes as an OTA update: the device has the agent, and takes it
    as its job."""
    image_size: int = 24_000
    """Bytes of its image, without head and signature."""
    sector_size: int = 4096
    """Bytes that its flash erases at once."""
    page_size: int = 256
    """Bytes that it programs at once."""
    write_size: int = 1
    """Bytes that are programmed together and only once between erases; 1: bits can be cleared one by one."""
    shuffled: bool = False
    """Blocks come in any order."""
    lost: float = 0.0
    """Share of messages that are lost, 0 to 1."""
    cuts: int = 2
    """Power cuts in one run at most."""
    torn: str | None = None
    """What a power cut leaves of a flash operation: some of `none,whole,prefix,bits,weak`; not set: each."""
    micropython: Path | None = None
    """MicroPython 1.25 for Unix, on which the firmware of `sim board` runs; not set: on CPython."""
    library: Path = Path("dist/mpy")
    """The device library compiled for it: what `make mpy` makes."""
    heap: str = "128k"
    """Its heap: bytes, or with `k` or `m`."""
