"""How uvicorn runs the API."""

import uvicorn

from broker_bridge.api.app import Api

KEEP_ALIVE_SECONDS = 30
MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers. AWS's clients stay under 4 KiB, with long session tokens."""
SHUTDOWN_SECONDS = 10
"""What requests have to finish when the service ends."""


def config(api: Api, host: str, port: int) -> uvicorn.Config:
    """The settings for `uvicorn.Server`. h11 and no WebSockets, whatever else is installed beside us."""
    return uvicorn.Config(
        api,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
