"""From method and path to an operation, by the `http` traits of a service's model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_to_bytes

from broker_bridge.api.errors import InvalidParameter, MethodNotAllowedException, UnknownOperationException

MAX_QUERY_FIELDS = 100
"""Fields in a query string; no operation has a tenth of them."""

Query = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Match:
    """An operation, and what its path's labels stand for, decoded."""

    operation: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Route:
    operation: str
    labels: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    """Fields that the query string must have."""


@dataclass(slots=True)
class _Node:
    """A place in the tree of paths. A label takes one segment, a greedy one (`{name+}`) all the rest."""

    literals: dict[str, "_Node"] = field(default_factory=dict)
    label: "_Node | None" = None
    greedy: "_Node | None" = None
    routes: dict[str, list[_Route]] = field(default_factory=dict)
    """By method; the ones that ask most of the query first."""


class Router:
    """The routes of one service."""

    def __init__(self, http: Mapping[str, tuple[str, str]]) -> None:
        """`http`: method and `requestUri` by operation."""
        self._root = _Node()
        for operation, (method, uri) in http.items():
            self._add(operation, method, uri)

    def match(self, method: str, path: bytes, query: Query) -> Match:
        """The operation of a request.

        A literal segment wins over a label and a label over a greedy one, if what wins has the method.
        HEAD is answered as GET where there is no HEAD operation. Raises UnknownOperationException,
        MethodNotAllowedException, InvalidParameter for a path that is no UTF-8.
        """
        segments = path_segments(path)
        allowed: set[str] = set()
        for node, values in _walk(self._root, segments, ()):
            route = _choose(node, method, query)
            if route is not None:
                return Match(route.operation, dict(zip(route.labels, values, strict=True)))
            allowed.update(node.routes)
        shown = "/" + "/".join(segments)[:200]
        if allowed and method not in allowed:
            if "GET" in allowed:
                allowed.add("HEAD")
            raise MethodNotAllowedException(
                f"{method[:20]} {shown}: the path has only {', '.join(sorted(allowed))}", sorted(allowed)
            )
        raise UnknownOperationException(f"{method[:20]} {shown}: no operation has this route")

    def _add(self, operation: str, method: str, uri: str) -> None:
        path, _, fixed = uri.partition("?")
        node = self._root
        labels = []
        for segment in path.removeprefix("/").split("/"):
            if not segment.startswith("{"):
                node = node.literals.setdefault(segment, _Node())
                continue
            name = segment.strip("{}")
            labels.append(name.removesuffix("+"))
            if name.endswith("+"):
                node.greedy = node.greedy or _Node()
                node = node.greedy
            else:
                node.label = node.label or _Node()
                node = node.label
        wanted = tuple(parse_qsl(fixed, keep_blank_values=True))
        routes = node.routes.setdefault(method, [])
        routes.append(_Route(operation, tuple(labels), wanted))
        routes.sort(key=lambda route: -len(route.query))


def path_segments(path: bytes) -> list[str]:
    """The path between its slashes, decoded: an encoded slash (`%2F`) separates nothing."""
    try:
        return [unquote_to_bytes(segment).decode() for segment in path.removeprefix(b"/").split(b"/")]
    except UnicodeDecodeError:
        raise InvalidParameter("the path is not percent-encoded UTF-8") from None


def parse_query(query: bytes) -> Query:
    """The fields of a query string. InvalidParameter where it is no UTF-8 or has too many."""
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except UnicodeDecodeError:
        raise InvalidParameter("the query string is not percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidParameter(f"the query string has over {MAX_QUERY_FIELDS} fields") from None


def _walk(
    node: _Node, segments: list[str], values: tuple[str, ...]
) -> Iterator[tuple[_Node, tuple[str, ...]]]:
    """Every node that the path leads to and that has routes, the most literal first.

    As deep as the routes are, not as the path is; an empty segment is left to validation, which names it.
    """
    if not segments:
        if node.routes:
            yield node, values
        return
    first, rest = segments[0], segments[1:]
    if (literal := node.literals.get(first)) is not None:
        yield from _walk(literal, rest, values)
    if node.label is not None:
        yield from _walk(node.label, rest, (*values, first))
    if node.greedy is not None:
        yield node.greedy, (*values, "/".join(segments))


def _choose(node: _Node, method: str, query: Query) -> _Route | None:
    routes = node.routes.get(method)
    if routes is None and method == "HEAD":
        routes = node.routes.get("GET")
    return next((route for route in routes or () if set(route.query) <= set(query)), None)
