"""ListStreams: pages, orders, and tokens that nobody can make."""

import base64
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.api import paging
from broker_bridge.api.errors import InvalidParameter
from tests.api.running import ROLE, Running, arn, file_entry, refused

NAMES = sorted([f"s-{i:03}" for i in range(23)] + ["A", "Z_", "_", "a", "-"])


@pytest.fixture(scope="module")
def many(api: Running, iot: Any) -> Any:
    for name in NAMES:
        iot.create_stream(streamId=name, files=[file_entry()], roleArn=ROLE, description=f"of {name}")
    return iot


def test_entries_are_summaries(many: Any) -> None:
    page = many.list_streams(maxResults=1, ascendingOrder=True)
    assert page["streams"] == [
        {"streamId": "-", "streamArn": arn("-"), "streamVersion": 1, "description": "of -"}
    ]


@pytest.mark.parametrize("size", [1, 5, 27, 28, 29, 250])
@pytest.mark.parametrize("ascending", [True, False])
def test_pages_hold_every_stream_once_in_order(many: Any, size: int, ascending: bool) -> None:
    pages = list(
        many.get_paginator("list_streams").paginate(
            ascendingOrder=ascending, PaginationConfig={"PageSize": size}
        )
    )
    names = [stream["streamId"] for page in pages for stream in page["streams"]]
    assert names == (NAMES if ascending else NAMES[::-1])
    assert all(len(page["streams"]) == size for page in pages[:-1])
    assert "nextToken" not in pages[-1]
    assert pages[-1]["streams"]


def test_without_the_flag_the_order_is_descending(many: Any) -> None:
    assert [s["streamId"] for s in many.list_streams()["streams"]] == NAMES[::-1]


def test_a_stream_deleted_between_pages_disturbs_none(api: Running, many: Any) -> None:
    for name in ("t-1", "t-2", "t-3"):
        many.create_stream(streamId=name, files=[file_entry()], roleArn=ROLE)
    token = many.list_streams(maxResults=2)["nextToken"]
    many.delete_stream(streamId="t-2")
    assert many.list_streams(maxResults=1, nextToken=token)["streams"][0]["streamId"] == "t-1"
    many.delete_stream(streamId="t-1")
    many.delete_stream(streamId="t-3")


def test_a_token_is_good_for_its_order_alone(many: Any) -> None:
    token = many.list_streams(maxResults=2, ascendingOrder=True)["nextToken"]
    assert many.list_streams(nextToken=token, ascendingOrder=True)["streams"][0]["streamId"] == NAMES[2]
    for order in ({"ascendingOrder": False}, {}):
        code, message, _ = refused(partial(many.list_streams, nextToken=token, **order))
        assert code == "InvalidRequestException"
        assert message.startswith("nextToken: ")


def test_a_token_changed_in_any_bit_is_refused(api: Running, many: Any) -> None:
    token = many.list_streams(maxResults=2)["nextToken"]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    scope = ("ListStreams", "descending")
    key = api.context.token_key
    assert paging.position(key, scope, token) == NAMES[-2]
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidParameter):
            paging.position(key, scope, base64.urlsafe_b64encode(changed).decode().rstrip("="))


@pytest.mark.parametrize("token", ["", "x", "%", "A" * 22, "A" * 100_0, "é", "\u0000", "s-001", "1"])
def test_a_token_of_somebody_elses_is_refused(many: Any, token: str) -> None:
    assert refused(lambda: many.list_streams(nextToken=token))[0] == "InvalidRequestException"


@given(st.binary(min_size=1, max_size=32), st.text(max_size=200), st.text(max_size=8), st.text(max_size=200))
def test_tokens_hold_their_position_and_nothing_else_is_one(
    key: bytes, position: str, order: str, junk: str
) -> None:
    scope = ("ListThings", order.replace("\0", ""))
    token = paging.issue(key, scope, position)
    assert paging.position(key, scope, token) == position
    for other in ((key + b"!", scope, token), (key, (*scope, "x"), token), (key, scope, junk)):
        with pytest.raises(InvalidParameter):
            paging.position(*other)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "maxResults: 0 is under the minimum of 1"),
        (-1, "maxResults: -1 is under the minimum of 1"),
        (251, "maxResults: 251 is over the maximum of 250"),
        (1 << 40, "maxResults: it must be an integer of 32 bits"),
    ],
)
def test_page_sizes_have_bounds(lax: Any, size: int, said: str) -> None:
    code, message, status = refused(lambda: lax.list_streams(maxResults=size))
    assert (code, message, status) == ("InvalidRequestException", said, 400)


@pytest.mark.parametrize(
    "query",
    [
        "maxResults=",
        "maxResults=ten",
        "maxResults=1.0",
        "maxResults=+1",
        "maxResults=1_0",
        "maxResults=%D9%A1",
        "maxResults=0x1",
        "maxResults=1&maxResults=1",
        "isAscendingOrder=yes",
        "isAscendingOrder=1",
        "isAscendingOrder=",
        "isAscendingOrder=true&isAscendingOrder=false",
        "maxResults=%ff",
        "nextToken=%ed%a0%80",
        "&".join(f"a{i}=1" for i in range(101)),
        "maxResults=" + "9" * 4000,
    ],
)
def test_query_strings_of_the_wrong_kind_are_refused(api: Running, query: str) -> None:
    answer = api.send("GET", f"/streams?{query}")
    assert (answer.status, answer.code) == (400, "InvalidRequestException")
    assert answer.json["message"]


def test_unknown_fields_of_a_query_are_ignored(api: Running) -> None:
    assert api.send("GET", "/streams?maxResults=1&isAscendingOrder=true&more=1&more=2").status == 200
