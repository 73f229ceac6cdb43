"""The settings in force: one typed object for all commands, and the list of all names in it.

What the service itself can be told comes from `broker_bridge.settings`; this adds what the other commands can
be told. `sluice/loading.py` fills it from file, environment and flags.
"""

import re
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from broker_bridge.settings import ServiceSettings
from sluice.rollout_settings import RolloutSettings
from sluice.sim_settings import SimSettings

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "text", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ServiceSettings):
    """The service's settings and those of the commands beside it. ValueError where one makes no sense."""

    thing: str | None = None
    """The thing as which `get` downloads, or that `rollout` updates: 1 to 128 of `a-z A-Z 0-9 : _ -`."""
    stream: str | None = None
    """The stream to publish to or to get: 1 to 128 of `a-z A-Z 0-9 _ -`. Devices with AWS's C libraries need
    44 or fewer."""
    file: int = 0
    """File id in the stream, 0 to 255."""
    bucket: str = "firmware"
    """Where `publish` and `rollout` put objects: an S3 bucket, or a folder in `storage.objects`."""
    block_size: int | None = None
    """Block size in bytes that `get` asks for, 256 to 131072; not set: the smallest power of two from 4096
    with which the whole file can be addressed."""
    encoding: str = "cbor"
    """Encoding of `get`'s requests and answers: `cbor` or `json`."""
    sha256: str | None = None
    """SHA-256 that the file must have, 64 hexadecimal digits; not set: the length alone is checked."""
    out: Path | None = None
    """Where `get` writes the file."""
    timeout: float = 30.0
    """Seconds without an answer after which `get`, `publish` and `rollout` give up."""
    json: bool = False
    """Print results as JSON."""
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    sim: SimSettings = field(default_factory=SimSettings)

    def __post_init__(self) -> None:
        ServiceSettings.__post_init__(self)
        _check_api(self.http)
        _check_address("broker.mqtt", self.broker.mqtt)
        _check_downloads(self.downloads.listen, self.downloads.url)
        if self.broker.url is not None:
            _check_broker(self.broker.url)
        _check_text("thing", self.thing, r"[a-zA-Z0-9:_-]{1,128}", "1 to 128 of a-z A-Z 0-9 : _ -")
        _check_text("stream", self.stream, r"[a-zA-Z0-9_-]{1,128}", "1 to 128 of a-z A-Z 0-9 _ -")
        _check_text("bucket", self.bucket, r"[^/\\\x00-\x1f]+", "a bucket's name, without slashes")
        _check_text("sha256", self.sha256, r"[0-9a-fA-F]{64}", "64 hexadecimal digits")
        _check_range("file", self.file, 0, 255)
        if self.block_size is not None:
            _check_range("block_size", self.block_size, 256, 131072)
        _check_range("timeout", self.timeout, 0.1, 86400)
        _check_choice("encoding", self.encoding, ("cbor", "json"))
        _check_choice("log_level", self.log_level, LOG_LEVELS)
        _check_choice("log_format", self.log_format, LOG_FORMATS)

    @property
    def api_url(self) -> str:
        """Where the API is called."""
        return self.http if "://" in self.http else f"http://{self.http}"

    @property
    def device_broker(self) -> str:
        """The broker's URL for a device: the one given, else where the embedded one listens."""
        return self.broker.url or f"mqtt://{self.broker.mqtt}"

    @property
    def objects(self) -> Path:
        """The folder of buckets, where objects are not in S3."""
        return self.storage.objects or self.state / "objects"


@dataclass(frozen=True, slots=True)
class Setting:
    """One leaf of Settings: its dotted name, and its type without None."""

    name: str
    type: object
    optional: bool
    default: object

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "SLUICE_" + self.name.replace(".", "_").upper()

    @property
    def is_size(self) -> bool:
        """Whether it counts bytes, and may be written with a unit."""
        leaf = self.name.rpartition(".")[2]
        return self.type is int and not {"size", "bytes"}.isdisjoint(leaf.split("_"))


SHORT_NAMES = {
    "broker": "broker.url",
    "mqtt": "broker.mqtt",
    "cafile": "broker.cafile",
    "cert": "broker.cert",
    "key": "broker.key",
    "objects": "storage.objects",
    "s3": "storage.s3",
    "s3_endpoint": "storage.s3_endpoint",
    **{entry.name: f"rollout.{entry.name}" for entry in fields(RolloutSettings)},
    **{entry.name: f"sim.{entry.name}" for entry in fields(SimSettings)},
}
"""Names without their group, as the flags have them; the file and the environment take both."""


def leaves(kind: type = Settings, prefix: str = "") -> dict[str, Setting]:
    """Every setting by its dotted name, in the order in which they are declared."""
    found: dict[str, Setting] = {}
    hints = typing.get_type_hints(kind)
    for entry in fields(kind):
        hint = hints[entry.name]
        name = prefix + entry.name
        if isinstance(hint, type) and is_dataclass(hint):
            found |= leaves(hint, name + ".")
            continue
        optional = isinstance(hint, types.UnionType)
        if optional:
            (hint,) = (option for option in typing.get_args(hint) if option is not types.NoneType)
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        found[name] = Setting(name, hint, optional, default)
    return found


def build(values: dict[str, object], kind: type = Settings, prefix: str = "") -> typing.Any:
    """`kind` with `values` by dotted name, defaults for the rest. ValueError from the group that refuses."""
    arguments: dict[str, object] = {}
    hints = typing.get_type_hints(kind)
    for entry in fields(kind):
        name = prefix + entry.name
        if isinstance(hints[entry.name], type) and is_dataclass(hints[entry.name]):
            arguments[entry.name] = build(values, hints[entry.name], name + ".")
        elif name in values:
            arguments[entry.name] = values[name]
    return kind(**arguments)


def value_of(settings: Settings, name: str) -> object:
    """The value of the setting with that dotted name."""
    found: object = settings
    for part in name.split("."):
        found = getattr(found, part)
    return found


def masked(text: str) -> str:
    """`text` with a URL's password replaced, in `user:password@` as in `?password=`, and without a scheme."""
    start = "(?<=://)" if "://" in text else r"(?<![^'\"])"
    text = re.sub(start + r"([^/?#@:'\"]*):.*@", r"\1:***@", text)
    return re.sub(r"(?i)(?<=[?&])([^=&#]*(?:passw|secret|token)[^=&#]*)=[^&#]*", r"\1=***", text)


def is_loopback(address: str) -> bool:
    """Whether host:port is reached from this machine alone."""
    host = urlsplit(f"//{address}").hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def is_everywhere(address: str) -> bool:
    """Whether host:port stands for all addresses of this machine."""
    return (urlsplit(f"//{address}").hostname or "") in ("0.0.0.0", "::")


def _check_api(text: str) -> None:
    if text.startswith("https://"):
        parts = _split("http", text)
        if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            raise ValueError(f"http is {masked(text)!r}; it must be host:port or https://host[:port][/path]")
    else:
        _check_address("http", text)


def _check_address(name: str, text: str) -> None:
    parts = _split(name, f"//{text}")
    if not parts.hostname or parts.port is None or parts.path or parts.query or parts.username is not None:
        raise ValueError(f"{name} is {masked(text)!r}; it must be host:port")


def _check_downloads(listen: str | None, url: str | None) -> None:
    if listen is not None:
        _check_address("downloads.listen", listen)
        if url is None and is_everywhere(listen):
            raise ValueError(
                f"downloads.listen is {listen!r}, which devices cannot call: give downloads.url too"
            )
    if url is not None:
        parts = _split("downloads.url", url)
        plain = not (parts.query or parts.fragment or parts.username is not None)
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            raise ValueError(f"downloads.url is {masked(url)!r}; it must be http[s]://host[:port][/path]")


def _check_broker(text: str) -> None:
    parts = _split("broker.url", text)
    plain = not (parts.path.strip("/") or parts.query or parts.fragment)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.port == 0 or not plain:
        raise ValueError(f"broker.url is {masked(text)!r}; it must be mqtt[s]://[user:password@]host[:port]")


def _split(name: str, text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{name} is {masked(text.removeprefix('//'))!r}: {error}") from None
    return parts


def _check_text(name: str, value: str | None, pattern: str, bound: str) -> None:
    if value is not None and not re.fullmatch(pattern, value):
        raise ValueError(f"{name} is {value!r}; it must be {bound}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must be from {low} to {high}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be {' or '.join(choices)}")
