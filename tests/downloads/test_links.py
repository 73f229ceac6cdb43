"""What the service's own URLs are, and that nobody else can make one."""

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker_bridge.downloads.links import LinkExpired, LinkRefused, Links
from broker_bridge.storage.objects import ObjectRef

LINKS = Links(b"s" * 32, "https://fw.example:8443/ota/")
REF = ObjectRef("firmware", "sensor/1.0/fw ü+&?%.bin", "0123456789abcdef0123456789abcdef")
EXPIRES = 1_700_000_000

buckets = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
etags = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)


def opened(url: str, now: float = EXPIRES - 1, links: Links = LINKS) -> ObjectRef:
    """As the server sees it: what is below the proxy's path."""
    parts = urlsplit(url)
    return links.open(parts.path.removeprefix("/ota"), parts.query, now)


@given(buckets, keys, etags, st.integers(1, 10**11))
@example("b", "../..//x", "e", 1)
def test_what_was_signed_comes_back(bucket: str, key: str, etag: str, expires: int) -> None:
    ref = ObjectRef(bucket, key, etag)
    url = LINKS.url(ref, expires)
    # Nothing that JSON would escape or a device trip over.
    assert re.fullmatch(r"https://fw\.example:8443/ota/objects/[A-Za-z0-9/%._~?=&-]+", url)
    assert opened(url, expires - 0.001) == ref
    with pytest.raises(LinkExpired):
        opened(url, expires)


def test_an_url_is_short_enough_for_small_buffers() -> None:
    assert len(LINKS.url(ObjectRef("firmware", "fw.bin", REF.etag), EXPIRES)) < 200


@pytest.mark.parametrize("field", ["bucket", "key", "etag", "expires", "signature"])
@given(data=st.data())
def test_no_field_can_be_altered(field: str, data: st.DataObject) -> None:
    url = LINKS.url(REF, EXPIRES)
    parts = urlsplit(url)
    values = dict(parse_qsl(parts.query)) | {"bucket": REF.bucket, "key": REF.key}
    old = values[field]
    at = data.draw(st.integers(0, len(old) - 1))
    piece = data.draw(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=3))
    new = old[:at] + piece + old[at + 1 :]
    if new == old:
        return
    values[field] = new
    path = f"/ota/objects/{quote(values.pop('bucket'), safe='')}/{quote(values.pop('key'))}"
    for now in (EXPIRES - 1, EXPIRES + 1):
        # Refused, and not merely expired: a forged URL is told nothing.
        with pytest.raises(LinkRefused):
            opened(parts._replace(path=path, query=urlencode(values)).geturl(), now)


def test_bucket_and_key_cannot_trade_a_slash() -> None:
    url = LINKS.url(ObjectRef("a", "b/c", "e"), EXPIRES)
    assert opened(url.replace("/a/b/c?", "/a%2Fb%2Fc?")) == ObjectRef("a", "b/c", "e")
    with pytest.raises(LinkRefused):
        LINKS.url(ObjectRef("a/b", "c", "e"), EXPIRES)
    with pytest.raises(LinkRefused):
        LINKS.url(ObjectRef("a", "b", "e\n1"), EXPIRES)


@pytest.mark.parametrize(
    "change",
    [
        lambda query: "",
        lambda query: query + "&x=1",
        lambda query: query + "&etag=e",
        lambda query: query.replace("etag=", "etag=&etag="),
        lambda query: query.partition("&signature")[0],
        lambda query: query.partition("&")[2],
        lambda query: query.replace("signature=", "signature"),
        lambda query: re.sub("expires=[0-9]+", "expires=", query),
        lambda query: re.sub("expires=", "expires=0", query),
        lambda query: re.sub("expires=", "expires=%2B", query),
        lambda query: re.sub("expires=[0-9]+", "expires=99999999999999999999", query),
        lambda query: re.sub("expires=[0-9]+", "expires=%D9%A1", query),
        lambda query: re.sub("etag=.", "etag=%FF", query),
        lambda query: query + "&" * 100_000,
    ],
)
def test_a_query_of_another_make_is_refused(change: "object") -> None:
    assert callable(change)
    parts = urlsplit(LINKS.url(REF, EXPIRES))
    with pytest.raises(LinkRefused):
        LINKS.open(parts.path.removeprefix("/ota"), change(parts.query), EXPIRES - 1)


@given(st.text(), st.text())
@example("/objects/%FF/x", "etag=e&expires=1&signature=s")
@example("/objects/\ud800", "etag=e&expires=1&signature=s")
@example("/objects/b/k", "etag=e&expires=1&signature=é")
@example("/objects/b/k", "etag=e&expires=1&signature=\ud800")
def test_whatever_is_asked_is_refused(path: str, query: str) -> None:
    with pytest.raises(LinkRefused):
        LINKS.open(path, query, 0)


def test_another_secret_makes_other_urls() -> None:
    url = Links(b"t" * 32, "https://fw.example:8443/ota").url(REF, EXPIRES)
    with pytest.raises(LinkRefused):
        opened(url)
    # The base is a proxy's business and not part of what is signed.
    assert opened(Links(b"s" * 32, "http://10.0.0.7").url(REF, EXPIRES)) == REF


def test_versions_have_no_links() -> None:
    with pytest.raises(ValueError, match="version"):
        LINKS.url(ObjectRef("b", "k", "e", "v"), EXPIRES)
