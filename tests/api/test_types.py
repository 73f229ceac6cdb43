"""Every type in every place, by a model made for the purpose: what `parse` and `validate` let through."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.model import ServiceModel

from broker_bridge.api import validate as validation
from broker_bridge.api.errors import InvalidParameter
from broker_bridge.api.parse import parameters
from broker_bridge.api.routes import parse_query
from broker_bridge.api.validate import validate
from broker_bridge.api.wire import Request

SHAPES: dict[str, Any] = {
    "Text": {"type": "string"},
    "Kind": {"type": "string", "enum": ["A", "B"]},
    "Slow": {"type": "string", "pattern": "(x+x+)+y"},
    "Name": {"type": "string", "pattern": "[a-z]+$", "min": 2, "max": 4},
    "Int": {"type": "integer", "min": -5, "max": 5},
    "Long": {"type": "long"},
    "Double": {"type": "double", "max": 1e9},
    "Flag": {"type": "boolean"},
    "Time": {"type": "timestamp"},
    "IsoTime": {"type": "timestamp", "timestampFormat": "iso8601"},
    "Bytes": {"type": "blob", "max": 3},
    "Names": {"type": "list", "member": {"shape": "Name"}, "max": 2},
    "Map": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Int"}, "max": 2},
    "Inner": {"type": "structure", "required": ["need"], "members": {"need": {"shape": "Text"}}},
}


def place(shape: str, location: str, name: str) -> dict[str, str]:
    return {"shape": shape, "location": location, "locationName": name}


SHAPES["Input"] = {
    "type": "structure",
    "members": {
        **{shape[0].lower() + shape[1:]: {"shape": shape} for shape in SHAPES},
        "queryInt": place("Int", "querystring", "i"),
        "queryTime": place("Time", "querystring", "t"),
        "queryNames": place("Names", "querystring", "n"),
        "queryDouble": place("Double", "querystring", "d"),
        "queryFlag": place("Flag", "querystring", "f"),
        "headerTime": place("Time", "header", "X-Time"),
        "headerBytes": place("Bytes", "header", "X-Bytes"),
        "renamed": {"shape": "Text", "locationName": "other"},
    },
}
OPERATION = ServiceModel(
    {
        "metadata": {"protocol": "rest-json", "endpointPrefix": "x", "serviceId": "X"},
        "operations": {
            "Do": {"name": "Do", "http": {"method": "POST", "requestUri": "/"}, "input": {"shape": "Input"}}
        },
        "shapes": SHAPES,
    }
).operation_model("Do")

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def given(body: bytes = b"{}", query: bytes = b"", headers: dict[str, str] | None = None) -> dict[str, Any]:
    request = Request("POST", b"/", query, headers or {}, body)
    values = parameters(OPERATION, request, {}, parse_query(query), rest=True)
    validate(OPERATION.input_shape, values)
    return values


@pytest.mark.parametrize(
    ("member", "sent", "value"),
    [
        ("text", '"\\ud83d\\ude00\\u0000"', "\U0001f600\0"),
        ("kind", '"A"', "A"),
        ("name", '"abcd"', "abcd"),
        ("int", "-5", -5),
        ("long", "-9223372036854775808", -(1 << 63)),
        ("double", "1", 1.0),
        ("double", "-1.5e3", -1500.0),
        ("flag", "false", False),
        ("time", "1767323045", TIME),
        ("time", "1767323045.25", TIME.replace(microsecond=250000)),
        ("time", "-1", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("isoTime", '"2026-01-02T04:04:05+01:00"', TIME),
        ("isoTime", '"2026-01-02T03:04:05"', TIME),
        ("bytes", '"AP8="', b"\0\xff"),
        ("names", '["ab","cd"]', ["ab", "cd"]),
        ("map", '{"ab":1,"cd":null}', {"ab": 1}),
        ("inner", '{"need":"","more":1}', {"need": ""}),
    ],
)
def test_values_in_the_body(member: str, sent: str, value: Any) -> None:
    got = given(f'{{"{member}":{sent}}}'.encode())[member]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("member", "sent", "said"),
    [
        ("kind", '"C"', "kind: 'C' is none of A, B"),
        ("kind", json.dumps("C" * 100_000), "kind: 'CCC"),
        ("name", '"abcd\\n"', "name: length 5 is over the maximum of 4"),
        ("name", '"abc\\n"', "name: it does not match the pattern [a-z]+$"),
        ("name", '"a"', "name: length 1 is under the minimum of 2"),
        ("int", "6", "int: 6 is over the maximum of 5"),
        ("int", "-6", "int: -6 is under the minimum of -5"),
        ("int", "1e0", "int: it must be an integer"),
        ("long", "9223372036854775808", "long: it must be an integer of 64 bits"),
        ("double", "1e999", "double: it must be a number"),
        ("double", "true", "double: it must be a number"),
        ("double", '"1"', "double: it must be a number"),
        ("double", "9" * 5000, "double: 1.8446744073709552e+19 is over the maximum"),
        ("flag", "1", "flag: it must be true or false"),
        ("time", "true", "time: it must be"),
        ("time", "1e300", "time: it must be"),
        ("isoTime", "5", "isoTime: it must be a string"),
        ("isoTime", '"yesterday"', "isoTime: it must be a time (iso8601)"),
        ("isoTime", '"9999-12-31T23:59:59-23:59"', "isoTime: it must be a time (iso8601)"),
        ("bytes", '"AP8"', "bytes: it must be Base64 text"),
        ("bytes", '"AP-_"', "bytes: it must be Base64 text"),
        ("bytes", '"é"', "bytes: it must be Base64 text"),
        ("bytes", '"AAAAAA=="', "bytes: length 4 is over the maximum of 3"),
        ("names", '["ab","cd","ef"]', "names: number of items 3 is over the maximum of 2"),
        ("names", '["ab",null]', "names[1]: it must be a string"),
        ("names", '["ab","A"]', "names[1]: length 1 is under the minimum of 2"),
        ("map", "[]", "map: it must be an object"),
        ("map", '{"AB":1}', "map's key 'AB': it does not match the pattern"),
        ("map", '{"ab":"1"}', "map['ab']: it must be an integer"),
        ("map", '{"ab":9}', "map['ab']: 9 is over the maximum of 5"),
        ("map", '{"\\ud800":1}', "map's key '\\ud800': a lone surrogate"),
        ("map", '{"aa":1,"ab":1,"ac":1}', "map: number of entries 3 is over the maximum of 2"),
        ("inner", "{}", "inner.need: required, and missing"),
        ("inner", '"x"', "inner: it must be an object"),
    ],
)
def test_values_that_cannot_be(member: str, sent: str, said: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        given(f'{{"{member}":{sent}}}'.encode())
    assert str(caught.value).startswith(said)
    assert len(str(caught.value)) < 500


def test_members_have_their_names_on_the_wire() -> None:
    assert given(b'{"other":"x","renamed":"y"}') == {"renamed": "x"}


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"i=-3&d=1.5e1&f=true", {"queryInt": -3, "queryDouble": 15.0, "queryFlag": True}),
        (b"t=2026-01-02T03:04:05Z", {"queryTime": TIME}),
        (b"n=ab&n=cd", {"queryNames": ["ab", "cd"]}),
    ],
)
def test_values_in_the_query(query: bytes, values: dict[str, Any]) -> None:
    assert given(query=query) == values


@pytest.mark.parametrize("query", [b"i=6", b"t=5", b"n=ab&n=c", b"d=nan", b"d=1e999", b"d=0x1", b"f=True"])
def test_queries_that_cannot_be(query: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"^query"):
        given(query=query)


def test_values_in_headers() -> None:
    assert given(headers={"x-time": "Fri, 02 Jan 2026 03:04:05 GMT", "x-bytes": "AP8="}) == {
        "headerTime": TIME,
        "headerBytes": b"\0\xff",
    }
    for wrong in ({"x-time": "x"}, {"x-bytes": "x"}, {"x-time": "Fri, 02 Jan 99999 03:04:05 GMT"}):
        with pytest.raises(InvalidParameter, match=r"^header"):
            given(headers=wrong)


def test_a_pattern_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "PATTERN_SECONDS", 0.01)
    with pytest.raises(InvalidParameter, match="slow: too long to be held against the pattern"):
        given(b'{"slow":"%s"}' % (b"x" * 20000))
