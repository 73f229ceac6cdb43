"""Where the broker is and how it is to be trusted."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker's host and port (1–65535), whether with TLS, and the credentials if any."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> "BrokerAddress":
        """Reads `mqtt[s]://[user[:password]@]host[:port]`; user and password percent-encoded, IPv6 bracketed.

        ValueError says what is wrong, and repeats nothing of the URL: it may hold a password.
        """
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in _PORTS:
            raise ValueError("the broker's URL must begin with mqtt:// or mqtts://")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(
                "the broker's URL has a malformed IPv6 address; write it in [brackets]"
            ) from None
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(
                "the broker's URL must end after host and port; "
                "in user and password, percent-encode / ? # and @"
            )
        # urlsplit drops these without a word, and a host with blanks in it is never meant.
        if any(character.isspace() for character in url):
            raise ValueError("the broker's URL must not hold blanks; percent-encode them")
        if not parts.hostname:
            raise ValueError("the broker's URL names no host")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if port == 0 or parts.netloc.endswith(":"):
            raise ValueError("the port in the broker's URL must be a number from 1 to 65535")
        if parts.password is not None and not parts.username:
            raise ValueError("the broker's URL has a password but no user")
        try:
            username = unquote(parts.username, errors="strict") if parts.username else None
            password = None if parts.password is None else unquote(parts.password, errors="strict")
        except UnicodeDecodeError:
            raise ValueError(
                "user and password in the broker's URL must be percent-encoded as UTF-8"
            ) from None
        return cls(parts.hostname, port or _PORTS[scheme], scheme == "mqtts", username, password)

    def __str__(self) -> str:
        """`host:port`, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without user and password, fit for logs."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self}"


def tls_context(
    cafile: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """The context for `mqtts`: trusts `cafile`, or else the system's CAs, and checks the host's name.

    `cert` and `key` (PEM, the key not encrypted) are the client's own. ValueError names the setting at fault.
    """
    for name, path in (("cafile", cafile), ("cert", cert), ("key", key)):
        if path is not None and not path.is_file():
            raise ValueError(f"{name}: there is no file {path}")
    if (cert is None) != (key is None):
        raise ValueError("cert and key must be given together")
    try:
        context = ssl.create_default_context(cafile=None if cafile is None else str(cafile))
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"cafile: {cafile} holds no readable PEM certificates ({error})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None and key is not None:
        try:
            # A key that asks for a passphrase would wait for a terminal.
            context.load_cert_chain(cert, key, password=_no_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ValueError(f"cert, key: {cert} and {key} are no pair in PEM ({error})") from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted")
