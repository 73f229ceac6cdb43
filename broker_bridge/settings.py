"""Everything the service can be told, as one typed object.

`sluice/settings.py` reads it from file, environment and flags; each group goes to the room that it is for.
Units are in the docstrings.
"""

from dataclasses import dataclass, field
from pathlib import Path

from broker_bridge.pace import GAPS, RATES
from chunker.limits import Limits

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """The MQTT broker, and how blocks are sent through it."""

    url: str | None = None
    """`mqtt[s]://[user:pass@]host[:port]`; None: the embedded broker, on `mqtt`."""
    mqtt: str = "127.0.0.1:1883"
    """Where the embedded broker listens, host:port; port 0 takes a free one."""
    cafile: Path | None = None
    """CA certificates (PEM) that sign the broker's certificate; None: the system's."""
    cert: Path | None = None
    """Client certificate (PEM), with `key`."""
    key: Path | None = None
    """Private key (PEM) of `cert`."""
    client_id: str = "sluice"
    """Start of the MQTT client id; a random suffix follows."""
    data_qos: int = 0
    """QoS of `data` messages, 0 or 1 (PROTOCOL "Topics")."""
    keep_alive: int = 30
    """MQTT keep-alive, seconds."""
    connect_timeout: float = 10.0
    """Seconds for the first connection at start; later ones are tried for ever, with back-off."""
    hold: int = 500
    """Messages written to a thing since its last request; then the service waits for it to ask again."""
    hold_bytes: int = 16 * MIB
    """The same in bytes."""
    bytes_per_second: int | None = None
    """File bytes that the whole service writes in a second, for thin uplinks; None: as many as it can. JSON
    takes a third more on the wire."""

    def __post_init__(self) -> None:
        _within("broker.data_qos", self.data_qos, 0, 1)
        _within("broker.keep_alive", self.keep_alive, 5, 65535)
        _within("broker.connect_timeout", self.connect_timeout, 0.1, 3600)
        _within("broker.hold", self.hold, 1, 1_000_000)
        _within("broker.hold_bytes", self.hold_bytes, 131072, 1 << 40)
        if self.bytes_per_second is not None:
            _within("broker.bytes_per_second", self.bytes_per_second, *RATES)
        if (self.cert is None) != (self.key is None):
            raise ValueError("broker.cert and broker.key must be given together")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Where the objects are."""

    objects: Path | None = None
    """Folder whose sub-folders are buckets; None: `objects` in the state folder. Not with `s3`."""
    s3: bool = False
    """Objects are in S3."""
    s3_endpoint: str | None = None
    """URL of an S3-compatible store; None: AWS's. Implies `s3`."""
    revalidate: float = 1.0
    """Seconds for which S3 is trusted not to have changed an object (PROTOCOL "Whose bytes")."""
    retries: int = 4
    """Tries of one S3 call before the store counts as failing."""
    timeout: float = 5.0
    """Seconds to connect, and for a silence while reading; a whole call may take five times that."""

    def __post_init__(self) -> None:
        _within("storage.revalidate", self.revalidate, 0, 3600)
        _within("storage.retries", self.retries, 1, 20)
        _within("storage.timeout", self.timeout, 0.1, 300)
        if self.objects is not None and (self.s3 or self.s3_endpoint):
            raise ValueError("storage.objects and storage.s3 exclude each other")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """The range cache between storage and delivery."""

    size: int = 32 * MIB
    """Bytes it may hold; with several `workers`, in each of them."""
    range_size: int = 512 * 1024
    """Bytes read from the store at once; a power of two."""
    readers: int = 4
    """Reads under way at once."""

    def __post_init__(self) -> None:
        _within("cache.size", self.size, MIB, 1 << 40)
        _within("cache.range_size", self.range_size, 128 * 1024, 16 * MIB)
        _within("cache.readers", self.readers, 1, 64)
        if self.range_size & (self.range_size - 1):
            raise ValueError(f"cache.range_size is {self.range_size}; it must be a power of two")
        if self.size < 4 * self.range_size:
            raise ValueError(f"cache.size is {self.size}; it must be at least four times cache.range_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSettings:
    """Files over HTTP, for jobs whose documents have presigned URLs, where objects are in a folder."""

    listen: str | None = None
    """Where devices fetch files, host:port; None: where the API listens. Nobody can do anything else there:
    it needs no protection, as `http` does."""
    url: str | None = None
    """What devices' URLs begin with, `http[s]://host[:port][/path]`: the reverse proxy in front; None: where
    it listens."""
    connections: int = 256
    """Downloads under way at once, 1 to 800; one more is answered with 503 and `Retry-After`."""

    def __post_init__(self) -> None:
        _within("downloads.connections", self.connections, 1, 800)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Jobs over MQTT."""

    answer_next_on_notify: tuple[str, ...] = ()
    """Things (patterns) that get the answer to `$next/get` on `notify-next` as well, for firmware that does
    not subscribe to `$next/get/accepted` because AWS sends it unasked."""
    events: bool = True
    """Publish `$aws/events/job/…` and `$aws/events/jobExecution/…`."""
    notices_per_second: int = 1000
    """Things that are told of new jobs (`notify-next`, `notify`) in a second."""

    def __post_init__(self) -> None:
        _within("jobs.notices_per_second", self.notices_per_second, 1, 100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Which things may have which streams: shell patterns (`*`, `?`, `[…]`), of which one must match."""

    streams: tuple[str, ...]
    things: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceRule:
    """How fast which things are written to, each of them: shell patterns, of which one in each must match."""

    things: tuple[str, ...] = ("*",)
    streams: tuple[str, ...] = ("*",)
    bytes_per_second: int | None = None
    """File bytes a second."""
    gap: float = 0.0
    """Seconds from one block to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningProfile:
    """A key that signs OTA updates, by the name that `signingProfileName` asks for it with."""

    profile: str
    key: Path
    """Private key (PEM): ECDSA on P-256, or RSA of 2048 to 4096 bits."""
    certificate_path: str
    """Where devices have its certificate, unless an update says otherwise."""
    password_env: str | None = None
    """Environment variable with the password of an encrypted key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The whole service."""

    http: str = "127.0.0.1:4580"
    """Where the API listens, host:port; port 0 takes a free one."""
    insecure_http: bool = False
    """Allows an `http` address that is not loopback: the API asks nobody who they are."""
    advertise: str | None = None
    """What DescribeEndpoint answers, host[:port]; None: the broker's own host and port."""
    state: Path = Path("~/.local/share/sluice")
    """The service's own data: registry, and objects unless they are elsewhere."""
    database: str | None = None
    """SQLAlchemy URL of the registry; None: SQLite in the state folder."""
    region: str = "us-east-1"
    account: str = "000000000000"
    workers: int = 1
    """Processes that answer devices, 1 to 64, each with a connection of its own. 1: the service's own process
    does; more are of use where one CPU core is not enough."""
    permissions: tuple[Permission, ...] = ()
    """The first entry whose `streams` match decides; a stream that none names is for every thing."""
    pace: tuple[PaceRule, ...] = ()
    """Tables of `things`, `streams` (patterns; all unless given), `bytes_per_second` (file bytes, to each
    thing) and `gap` (seconds from block to block). The first that matches both counts; with neither rate nor
    gap it exempts. A stream's tags `sluice:bytes-per-second` and `sluice:block-gap` may slow it further."""
    signing: tuple[SigningProfile, ...] = ()
    """Keys that sign OTA updates: tables of `profile` (the name that updates ask for), `key` (PEM file: ECDSA
    on P-256, or RSA of 2048 to 4096 bits), `certificate_path` (where devices have the certificate) and, for
    an encrypted key, `password_env` (the environment variable with its password). Read once, at start."""
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    limits: Limits = field(default_factory=Limits)
    log_level: str = "info"
    """Least severe log entries written: `debug`, `info`, `warning` or `error`."""
    log_format: str = "auto"
    """Log entries as `text` or as `json` lines; `auto`: text on a terminal, else JSON."""

    def __post_init__(self) -> None:
        if not (len(self.account) == 12 and self.account.isascii() and self.account.isdigit()):
            raise ValueError(f"account is {self.account!r}; it must be 12 digits")
        _within("workers", self.workers, 1, 64)
        for i, rule in enumerate(self.pace):
            if rule.bytes_per_second is not None:
                _within(f"pace[{i}].bytes_per_second", rule.bytes_per_second, *RATES)
            _within(f"pace[{i}].gap", rule.gap, *GAPS)
        names = [entry.profile for entry in self.signing]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise ValueError(
                    f"signing[{i}].profile is {name!r}, as another's; each needs a name of its own"
                )


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must be from {low} to {high}")
