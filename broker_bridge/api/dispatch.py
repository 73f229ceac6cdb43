"""Which service and operation a request is for, and its answer: the API's inside, without sockets.

Every outcome is a response. Whatever is wrong with a request is a 4xx with AWS's kind of body; a 500 is a
fault of ours, logged with its cause and answered without it.
"""

import re
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from urllib.parse import parse_qs

import structlog

from broker_bridge.api import parse, serialize
from broker_bridge.api.context import Context
from broker_bridge.api.errors import (
    AccessDeniedException,
    ApiError,
    IncompleteSignatureException,
    InternalFailureException,
    InvalidParameter,
    MethodNotAllowedException,
    UnknownOperationException,
)
from broker_bridge.api.model import REST_JSON, BoundOperation, LoadedService
from broker_bridge.api.routes import Query, parse_query
from broker_bridge.api.service import Service
from broker_bridge.api.validate import validate
from broker_bridge.api.wire import Request, Response

log = structlog.stdlib.get_logger(__name__)

UNSIGNED = "iot"
"""Signing name of the service that a request without credentials is for."""

# AKID/date/region/service/aws4_request; of SigV4a, the region is left out.
_SCOPE = re.compile(r"[^/\s,]{1,256}/[0-9]{8}/(?:[^/\s,]{1,64}/)?([^/\s,]{1,64})/aws4_request")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class ApiStats:
    """Answers since the start, by what they were for. Written from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, str, int]] = Counter()
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)

    def count(self, service: str, operation: str, status: int, seconds: float) -> None:
        """One answer, `seconds` after its request was read. Empty names: it was for none that we have."""
        with self._lock:
            self._answers[service, operation, status] += 1
            self._seconds[service, operation] += seconds

    def answers(self) -> dict[tuple[str, str, int], int]:
        """Answers by service, operation and HTTP status."""
        with self._lock:
            return dict(self._answers)

    def seconds(self) -> dict[tuple[str, str], float]:
        """Time spent in all, by service and operation."""
        with self._lock:
            return dict(self._seconds)


class _Loading:
    """A service, and its model once somebody asked for it: loading takes a tenth of a second."""

    def __init__(self, service: Service, context: Context) -> None:
        self.service = service
        self._context = context
        self._lock = threading.Lock()
        self._loaded: LoadedService | None = None

    def load(self) -> LoadedService:
        with self._lock:
            if self._loaded is None:
                self._loaded = LoadedService(self.service, self._context)
            return self._loaded


class _Call:
    """What is known of a request so far, so that an error is answered in its service's own way."""

    def __init__(self) -> None:
        self.loaded: LoadedService | None = None
        self.operation = ""


class Dispatcher:
    """The services of one endpoint. Thread safe; a call takes as long as its operation."""

    def __init__(self, services: Sequence[Service], context: Context) -> None:
        self._context = context
        self._by_signing_name = {service.signing_name: _Loading(service, context) for service in services}
        self._by_target = {
            service.target_prefix: self._by_signing_name[service.signing_name]
            for service in services
            if service.target_prefix is not None
        }
        self.stats = ApiStats()

    def handle(self, request: Request) -> Response:
        """The answer, `x-amzn-RequestId` included. Raises nothing."""
        request_id = str(uuid.uuid4())
        started = time.monotonic()
        call = _Call()
        code = ""
        try:
            response = self._answer(request, call)
        except Exception as error:  # noqa: BLE001 - the rim: every error becomes an answer here
            refusal = self._refusal(error, call, request_id)
            code = refusal.code
            response = serialize.error(refusal, call.loaded)
        response.headers.append(("x-amzn-RequestId", request_id))
        seconds = time.monotonic() - started
        service = call.loaded.service.name if call.loaded is not None else ""
        self.stats.count(service, call.operation, response.status, seconds)
        log.info(
            "api request",
            operation=call.operation or f"{request.method[:20]} {request.path[:100].decode('latin-1')}",
            status=response.status,
            code=code or None,
            seconds=round(seconds, 4),
            request_id=request_id,
        )
        return response

    def _answer(self, request: Request, call: _Call) -> Response:
        if "origin" in request.headers and request.method not in _SAFE_METHODS:
            # Whoever reaches the API decides what devices install, and a page open in a browser beside it
            # reaches it. Browsers name the page's origin in such requests; AWS's clients send none.
            raise AccessDeniedException("requests from web pages (with an Origin header) change nothing here")
        loading, target = self._choose(request)
        call.loaded = loaded = loading.load()
        query = parse_query(request.query)
        if loaded.protocol == REST_JSON:
            try:
                match = loaded.router.match(request.method, request.path, query)
            except MethodNotAllowedException as error:
                if request.method == "OPTIONS":
                    # Without CORS headers: web pages are not let in.
                    return Response(204, b"", error.response_headers())
                raise
            name, labels = match.operation, match.labels
        else:
            if request.method != "POST":
                raise MethodNotAllowedException("operations with X-Amz-Target are called with POST", ["POST"])
            name, labels = target, {}
        operation = loaded.operation(name)
        call.operation = name
        return self._call(loaded, operation, request, labels, query)

    def _call(
        self,
        loaded: LoadedService,
        operation: BoundOperation,
        request: Request,
        labels: dict[str, str],
        query: Query,
    ) -> Response:
        rest = loaded.protocol == REST_JSON
        given = parse.parameters(operation.model, request, labels, query, rest)
        if operation.model.input_shape is not None:
            validate(operation.model.input_shape, given)
        arguments = {operation.arguments[name]: value for name, value in given.items()}
        result = operation.function(self._context, **arguments)
        return serialize.result(loaded, operation.model, result)

    def _choose(self, request: Request) -> tuple[_Loading, str]:
        """The service, before the path is looked at (some paths are in two), and the target's operation."""
        if (target := request.headers.get("x-amz-target")) is not None:
            prefix, _, name = target.rpartition(".")
            if prefix not in self._by_target:
                raise UnknownOperationException(f"X-Amz-Target: no service here has {target[:100]!r}")
            return self._by_target[prefix], name
        signing_name = _signing_name(request)
        if signing_name not in self._by_signing_name:
            raise UnknownOperationException(f"there is no service {signing_name!r} here")
        loading = self._by_signing_name[signing_name]
        if loading.service.target_prefix is not None:
            raise UnknownOperationException(f"{loading.service.name}: the X-Amz-Target header is missing")
        return loading, ""

    def _refusal(self, error: Exception, call: _Call, request_id: str) -> ApiError:
        refusal = _known(error, call)
        if refusal is None:
            refusal = InternalFailureException("an internal failure; the service's log has its cause")
        if refusal.status >= 500:
            log.error("api request failed", operation=call.operation, request_id=request_id, exc_info=error)
        return refusal


def _known(error: Exception, call: _Call) -> ApiError | None:
    if isinstance(error, ApiError):
        return error
    if call.loaded is None:
        return None
    service = call.loaded.service
    if isinstance(error, InvalidParameter):
        return service.invalid(str(error))
    return service.translate(error)


def _signing_name(request: Request) -> str:
    header = request.headers.get("authorization", "")
    if header.startswith("AWS4-"):
        _, found, rest = header.partition("Credential=")
        scope = _SCOPE.match(rest) if found else None
        if scope is None:
            raise IncompleteSignatureException("Authorization: no credential scope that can be read")
        return scope[1]
    if b"X-Amz-Credential=" in request.query:
        # A presigned URL carries the scope in its query.
        given = parse_qs(request.query.decode("latin-1")).get("X-Amz-Credential", [""])
        scope = _SCOPE.fullmatch(given[0])
        if scope is None:
            raise IncompleteSignatureException("X-Amz-Credential: no credential scope that can be read")
        return scope[1]
    return UNSIGNED
