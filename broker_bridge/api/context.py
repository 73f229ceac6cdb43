"""What operations work with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker_bridge.jobs import showing
from broker_bridge.ota.signing import Profile
from broker_bridge.registry.registry import Registry
from broker_bridge.storage.objects import ObjectStore
from chunker.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The service's doors and settings, handed to every operation. All of it is thread safe."""

    registry: Registry
    store: ObjectStore
    limits: Limits
    region: str
    account: str
    advertise: str
    """The broker as DescribeEndpoint names it: host, or host:port."""
    token_key: bytes
    """Signs paging tokens; the same after a restart, so that they stay good."""
    clock: Callable[[], datetime]
    """The time, in UTC."""
    render: showing.Render = showing.as_it_is
    """How a job's document becomes what a device gets."""
    s3_endpoint: str | None = None
    """The S3-compatible store that job documents may name objects by; None: AWS's, or a folder."""
    signing: Mapping[str, Profile] = field(default_factory=dict)
    """The keys that sign OTA updates, by the names of their profiles."""
