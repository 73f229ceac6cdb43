"""What an API request can be refused with, whichever service it is for.

A class that derives from ApiError is named as its code on the wire. Its HTTP status is the one that the
service's model gives to the shape of that name; `status` is for the codes that stand in no model.
"""

from typing import ClassVar


class ApiError(Exception):
    """An answer that is an error. The message is shown to the client: it holds no path and no trace."""

    status: ClassVar[int] = 400

    def __init__(self, message: str, **members: str) -> None:
        """`members` are further members of the error's shape, by their names on the wire."""
        super().__init__(message)
        self.members = members

    @property
    def code(self) -> str:
        """The error's name in AWS's wire."""
        return type(self).__name__

    def response_headers(self) -> list[tuple[str, str]]:
        """Headers that belong to this error."""
        return []


class InvalidParameter(Exception):
    """A request that breaks the model. The message names the member and the bound.

    What it is called on the wire differs from service to service (`Service.invalid`).
    """


class UnknownOperationException(ApiError):
    """No operation of a service that is here has this route or target, or it is not implemented."""

    status = 404


class MethodNotAllowedException(ApiError):
    """The path exists, with other methods."""

    status = 405

    def __init__(self, message: str, allowed: list[str]) -> None:
        """`allowed`: the methods that the path has (RFC 9110, 15.5.6 wants them named)."""
        super().__init__(message)
        self.allowed = allowed

    def response_headers(self) -> list[tuple[str, str]]:
        """`Allow`."""
        return [("allow", ", ".join(self.allowed))]


class IncompleteSignatureException(ApiError):
    """An `Authorization` header of AWS's kind without a credential scope that can be read."""

    status = 400


class AccessDeniedException(ApiError):
    """A request that this service never grants."""

    status = 403


class RequestEntityTooLargeException(ApiError):
    """The body is over the bound."""

    status = 413


class RequestTimeoutException(ApiError):
    """The body did not arrive in time."""

    status = 408


class ServiceUnavailableException(ApiError):
    """Too much is under way, or something that the service needs does not answer; try again."""

    status = 503


class InternalFailureException(ApiError):
    """A fault of the service. Its cause is in the log, under the request's id."""

    status = 500
