"""Which store it is: the one choice between S3 and a folder."""

from pathlib import Path

from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectStore


def open_store(
    *,
    folder: Path | None = None,
    s3_endpoint: str | None = None,
    region: str | None = None,
    revalidate: float = 1.0,
    readers: int = 4,
    attempts: int = 4,
    timeout: float = 5.0,
) -> ObjectStore:
    """The objects in `folder`, or without one those in S3 (at `s3_endpoint` where it is not AWS).

    `revalidate`: seconds for which S3 is not asked again whether an object has changed; a folder is always
    asked. `readers`: threads that read at once. `attempts` of one S3 call, each with `timeout` seconds to
    connect and for a silence.
    """
    if folder is not None:
        return FolderStore(folder)
    # Here and not above: services that keep their objects in a folder do without boto3.
    from broker_bridge.storage.s3 import S3Store

    # Beside the readers there are the control plane's threads.
    return S3Store(
        endpoint_url=s3_endpoint,
        region=region,
        revalidate=revalidate,
        connections=max(16, 2 * readers),
        attempts=attempts,
        connect_timeout=timeout,
        read_timeout=timeout,
        total_timeout=3 * timeout,
    )
