"""URLs and certificates: what is wrong is said, a password never."""

from pathlib import Path

import pytest

from broker_bridge.mqtt.address import BrokerAddress, tls_context


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", BrokerAddress("broker", 1883)),
        ("mqtts://broker", BrokerAddress("broker", 8883, tls=True)),
        ("mqtt://10.0.0.1:2000/", BrokerAddress("10.0.0.1", 2000)),
        ("mqtt://[::1]", BrokerAddress("::1", 1883)),
        ("mqtts://[fe80::2]:99", BrokerAddress("fe80::2", 99, tls=True)),
        ("mqtt://u@h", BrokerAddress("h", 1883, username="u")),
        ("mqtt://u:@h", BrokerAddress("h", 1883, username="u", password="")),
        ("mqtt://a%40b:p%2F%C3%A4%3A@h:1", BrokerAddress("h", 1, username="a@b", password="p/ä:")),
    ],
)
def test_urls(url: str, expected: BrokerAddress) -> None:
    assert BrokerAddress.parse(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("user:s3cret@host", "must begin with mqtt://"),
        ("http://u:s3cret@host", "must begin with mqtt://"),
        ("mqtt://u:s3cret@", "no host"),
        ("mqtt://u:s3cret@host:port", "port"),
        ("mqtt://u:s3cret@host:0", "port"),
        ("mqtt://u:s3cret@host:65536", "port"),
        ("mqtt://u:s3cret@host:", "port"),
        ("mqtt://u:s3c/ret@host", "percent-encode"),
        ("mqtt://u:s3c#ret@host", "percent-encode"),
        ("mqtt://u:s3cret@host/topic", "must end after host and port"),
        ("mqtt://u:s3cret@[::1", "IPv6"),
        ("mqtt://u:s3c ret@host", "blanks"),
        ("mqtt://:s3cret@host", "no user"),
        ("mqtt://u:s3cret%ff@host", "UTF-8"),
    ],
)
def test_wrong_urls_are_explained_without_the_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        BrokerAddress.parse(url)
    assert "s3c" not in str(caught.value)
    assert "ret" not in str(caught.value).replace("secret", "")


def test_the_password_is_not_shown() -> None:
    address = BrokerAddress.parse("mqtts://u:s3cret@[::1]:7")
    assert str(address) == "[::1]:7"
    assert address.url == "mqtts://[::1]:7"
    assert "s3cret" not in repr(address)


def test_certificate_errors_name_the_setting(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    with pytest.raises(ValueError, match=r"^cafile: there is no file"):
        tls_context(cafile=tmp_path / "none")
    with pytest.raises(ValueError, match=r"^cafile: .* no readable PEM"):
        tls_context(cafile=junk)
    with pytest.raises(ValueError, match=r"^cert, key: "):
        tls_context(cert=junk, key=junk)
    with pytest.raises(ValueError, match="given together"):
        tls_context(cert=junk)
