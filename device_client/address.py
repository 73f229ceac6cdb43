"""Where a broker is, and how to be let in. CPython."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from device_client.mqtt import BrokerUnreachable

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker's address, what it takes for a login, and TLS where it is spoken."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    tls: "ssl.SSLContext | None" = None

    @classmethod
    def parse(
        cls, url: str, cafile: str | None = None, cert: str | None = None, key: str | None = None
    ) -> Self:
        """Of `mqtt[s]://[user:password@]host[:port]`; the files are for TLS, else the system's roots.

        ValueError, which does not repeat a URL that may hold a password; BrokerUnreachable for bad TLS files.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("the broker's URL is not mqtt[s]://[user:password@]host[:port]")
        login = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme == "mqtt":
            return cls(parts.hostname, parts.port or 1883, *login)
        import ssl

        try:
            tls = ssl.create_default_context(cafile=cafile)
            if cert:
                tls.load_cert_chain(cert, key)
        except (OSError, ValueError) as error:
            raise BrokerUnreachable(f"cannot use the TLS files: {error}") from error
        return cls(parts.hostname, parts.port or 8883, *login, tls)
