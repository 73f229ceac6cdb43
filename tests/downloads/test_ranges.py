"""Range, If-Range, If-Match and If-None-Match (RFC 9110)."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.downloads.ranges import (
    NotModified,
    PreconditionFailed,
    RangeNotSatisfiable,
    Span,
    wanted,
)

ETAG = "0f"
CONTENT = bytes(range(200))


def asked(field: str, size: int = 200, **more: str) -> Span | None:
    return wanted("GET", {"range": field, **more}, size, ETAG)


@pytest.mark.parametrize(
    ("field", "span"),
    [
        # RFC 9110, 14.1.2, with its lengths
        ("bytes=0-499", Span(0, 500)),
        ("bytes=500-999", Span(500, 1000)),
        ("bytes=-500", Span(9500, 10000)),
        ("bytes=9500-", Span(9500, 10000)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=-1", Span(9999, 10000)),
        ("bytes=9999-9999", Span(9999, 10000)),
        ("bytes=0-10000", Span(0, 10000)),
        ("bytes=0-9999999999999999999", Span(0, 10000)),
        ("bytes=-10001", Span(0, 10000)),
        ("BYTES=1-2", Span(1, 3)),
        (" bytes=\t1-2 ", Span(1, 3)),
        ("bytes=0001-0002", Span(1, 3)),
        # what is no range, of other units, or several, is as if it were not there
        ("bytes=2-1", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=1", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=-1-2", None),
        ("bytes=1 - 2", None),
        ("bytes=١-٢", None),
        ("bytes=0-0,-1", None),
        ("bytes=0-0, 2-2", None),
        ("lines=0-1", None),
        ("0-1", None),
        ("", None),
        ("bytes=0-" + "9" * 5000, None),
    ],
)
def test_one_range_of_10000_bytes(field: str, span: Span | None) -> None:
    assert asked(field, 10000) == span


@pytest.mark.parametrize(
    ("field", "size"),
    [("bytes=10000-", 10000), ("bytes=10000-10001", 10000), ("bytes=-0", 10000), ("bytes=0-", 0)]
    + [("bytes=-0", 0), ("bytes=0-0", 0), ("bytes=9999999999999999999-", 10000)],
)
def test_ranges_without_a_byte(field: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        asked(field, size)


def test_a_suffix_of_nothing_is_the_whole() -> None:
    assert asked("bytes=-5", 0) is None


@given(st.integers(0, 250), st.one_of(st.none(), st.integers(0, 250)), st.integers(0, 200))
def test_a_range_selects_what_slicing_does(first: int, last: int | None, size: int) -> None:
    content = CONTENT[:size]
    selected = content[first : None if last is None else last + 1]
    field = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert asked(field, size) is None
    elif not selected:
        with pytest.raises(RangeNotSatisfiable):
            asked(field, size)
    else:
        span = asked(field, size)
        assert span is not None
        assert content[span.start : span.end] == selected


@given(st.integers(1, 250), st.integers(1, 200))
def test_a_suffix_selects_what_slicing_does(length: int, size: int) -> None:
    span = asked(f"bytes=-{length}", size)
    assert span is not None
    assert CONTENT[:size][span.start : span.end] == CONTENT[:size][-length:]


@given(st.text(string.printable + "٣é"), st.integers(0, 200))
def test_whatever_is_asked_is_a_range_or_none(field: str, size: int) -> None:
    for text in (field, f"bytes={field}"):
        try:
            span = asked(text, size)
        except RangeNotSatisfiable:
            continue
        assert span is None or 0 <= span.start < span.end <= size


@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
def test_ranges_are_for_get_alone(method: str) -> None:
    assert wanted(method, {"range": "bytes=0-1"}, 200, ETAG) is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('"0f"', True),
        (' "0f" ', True),
        ('W/"0f"', False),
        ('"0e"', False),
        ("0f", False),
        ("*", False),
        ('"0f", "0e"', False),
        ("Sat, 29 Oct 1994 19:43:31 GMT", False),
        ("", False),
    ],
)
def test_if_range_needs_the_very_bytes(condition: str, holds: bool) -> None:
    found = wanted("GET", {"range": "bytes=5-", "if-range": condition}, 200, ETAG)
    assert found == (Span(5, 200) if holds else None)
    # also where there is nothing to be had: a client whose file was replaced gets the whole new one
    if not holds:
        assert wanted("GET", {"range": "bytes=999-", "if-range": condition}, 200, ETAG) is None


@pytest.mark.parametrize(
    ("condition", "strong", "weak"),
    [
        ('"0f"', True, True),
        ('W/"0f"', False, True),
        ("*", True, True),
        ('"0e"', False, False),
        ('"0e", "0f"', True, True),
        ('"a,b" ,\tW/"c","0f"', True, True),
        ('"0e", W/"0f"', False, True),
        ("0f", False, False),
        ('"0f', False, False),
        ("", False, False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_lists_of_entity_tags(method: str, condition: str, strong: bool, weak: bool) -> None:
    if strong:
        assert wanted(method, {"if-match": condition}, 200, ETAG) is None
    else:
        with pytest.raises(PreconditionFailed):
            wanted(method, {"if-match": condition}, 200, ETAG)
    if weak:
        with pytest.raises(NotModified):
            wanted(method, {"if-none-match": condition}, 200, ETAG)
    else:
        assert wanted(method, {"if-none-match": condition}, 200, ETAG) is None


def test_the_order_of_conditions() -> None:
    # RFC 9110, 13.2.2: If-Match, If-None-Match, If-Range
    everything = {"if-match": '"0e"', "if-none-match": '"0f"', "if-range": '"0f"', "range": "bytes=999-"}
    with pytest.raises(PreconditionFailed):
        wanted("GET", everything, 200, ETAG)
    with pytest.raises(NotModified):
        wanted("GET", everything | {"if-match": '"0f"'}, 200, ETAG)
    with pytest.raises(RangeNotSatisfiable):
        wanted("GET", everything | {"if-match": '"0f"', "if-none-match": '"0e"'}, 200, ETAG)


@given(st.text(string.printable + "é", max_size=40))
def test_no_condition_is_too_strange(condition: str) -> None:
    for name in ("if-match", "if-none-match", "if-range"):
        try:
            found = wanted("GET", {name: condition, "range": "bytes=1-1"}, 200, ETAG)
        except (PreconditionFailed, NotModified):
            continue
        assert found in (None, Span(1, 2))
