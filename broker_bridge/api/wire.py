"""A request and a response as the API's inside sees them: no sockets, no ASGI."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, read whole."""

    method: str
    path: bytes
    """Still percent-encoded, without the query."""
    query: bytes
    headers: dict[str, str]
    """By lower-case name; repeated ones joined with commas (RFC 9110, 5.3)."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response, still without request id and content length."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
