"""What `sluice rollout` can be told. What makes sense is its own to say: it is checked where it is used."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """For `sluice rollout`; `thing`, `bucket`, `timeout` and `json` are those of the other commands."""

    group: str | None = None
    """Thing groups to update, with the groups below them: names, joined by commas. Not with `thing`."""
    id: str | None = None
    """Id of the rollout's OTA update, 1 to 56 of `a-z A-Z 0-9 _ -`; not set: the file's name and the time."""
    signing_key: Path | None = None
    """Private key (PEM) that signs the file on this machine: ECDSA on P-256, or RSA. It is never sent."""
    signing_profile: str | None = None
    """Profile of the service's setting `signing` that signs the file there."""
    signature: Path | None = None
    """File with the signature, made elsewhere over the SHA-256: DER or PKCS #1 v1.5, plain or in Base64."""
    certificate: str | None = None
    """Where devices have the certificate that the signature is checked with (`certfile`); not set: where the
    profile says, else `/device/certs/signer.pem`."""
    path: str | None = None
    """Where devices put the file (`filepath`); not set: the file's name."""
    file_type: int | None = None
    """`fileType` in the job document, 0 to 255."""
    protocols: str = "MQTT"
    """How devices may fetch the file: `MQTT`, `HTTP` or `MQTT,HTTP`."""
    canary: str | None = None
    """Percentage of the things that come first, as in `5%`: the stages `5@95:10m/100`. Not with `stages`."""
    stages: str | None = None
    """`PERCENT@SUCCEEDED:SOAK/…/100`, as in `5@95:10m/25@98:1h/100`: [rollouts.md](rollouts.md)."""
    max_per_minute: int | None = None
    """Things that are reached in a minute at most, 1 to 1000; not set: as many as the service can."""
    abort_on: str | None = None
    """Failures that stop the rollout: `[KIND:]PERCENT%[:LEAST]`, joined by commas, as in `FAILED:5%:20`. KIND
    is `FAILED`, `REJECTED`, `TIMED_OUT` or `ALL`, unless given `ALL`; LEAST is how many things must have come
    to an end before it counts, unless given 10."""
    device_timeout: int | None = None
    """Minutes in which a device that has begun must end, 1 to 10080; not set: it may take for ever."""
    continuous: bool = False
    """Also for things that join the group later; such a rollout never ends by itself."""
    detach: bool = False
    """Do not follow the rollout."""
    force: bool = False
    """`rollout cancel` also for devices that have begun."""
