"""A botocore client and a dispatcher of ours, put together without a socket."""

import io
from typing import Any
from urllib.parse import urlsplit

import urllib3
from botocore.awsrequest import AWSResponse

from broker_bridge.api.dispatch import Dispatcher
from broker_bridge.api.wire import Request, Response


class Joined:
    """The client's requests are the dispatcher's, and its answers the client's."""

    def __init__(self, client: Any, dispatcher: Dispatcher) -> None:
        self.client = client
        self.response = Response(0)
        """The last one, as it was on the wire."""
        self._dispatcher = dispatcher
        client.meta.events.register("before-send", self._carry)

    def _carry(self, request: Any, **_: Any) -> AWSResponse:
        url = urlsplit(request.url)
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        body = request.body or b""
        self.response = self._dispatcher.handle(
            Request(
                request.method,
                url.path.encode(),
                url.query.encode(),
                headers,
                body.encode() if isinstance(body, str) else body,
            )
        )
        raw = urllib3.HTTPResponse(io.BytesIO(self.response.body), preload_content=False)
        return AWSResponse(request.url, self.response.status, dict(self.response.headers), raw)
