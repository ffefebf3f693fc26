"""How other systems are reached: what the settings of endpoints, routers and channels share."""

import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from watchdog.settings import Listen, LocalPath, Secret, Settings, address_of

if TYPE_CHECKING:
    from aiohttp import web

_ALLOWED = "write host:port or http(s)://host:port[/prefix], such as 127.0.0.1:8000 or https://triton.example:8443"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "inference-header-content-length",
        "transfer-encoding",
    }
)
"""Headers that the request itself determines."""


def _checked_name(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError(f"{name!r} is no header name: use letters, digits and hyphens")
    if name.lower() in _FRAMING:
        raise ValueError(f"the header {name} follows from the request and can't be set")
    return name


def _checked_value(value: str) -> str:
    if not _is_header_value(value):
        raise ValueError("a header's value must be one line of printable ASCII")
    return value


def _is_header_value(value: str) -> bool:
    return value.isascii() and value.isprintable()


HeaderName = Annotated[str, AfterValidator(_checked_name)]
HeaderValue = Annotated[str, AfterValidator(_checked_value)]


class Tls(Settings):
    """How the other side's certificate is checked and, for mutual TLS, what is shown to it.

    The files are read again whenever a connection is made anew, so they can be rotated.
    """

    ca: LocalPath | None = None
    """PEM file of the authorities to trust; the system's where absent."""
    cert: LocalPath | None = None
    """PEM file of the client's certificate chain."""
    key: LocalPath | None = None
    server_name: str | None = Field(default=None, min_length=1)
    """The name that the certificate must carry, where it isn't the URL's host."""

    @model_validator(mode="after")
    def _cert_with_key(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both or neither")
        return self

    def context(self) -> ssl.SSLContext:
        """What the standard library and aiohttp want.

        Raises:
            ValueError: a file is missing or is not what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key, password="")  # None would ask the terminal for one
        except OSError as error:
            raise ValueError(f"the files of `tls` can't be used ({error})") from error
        return context


class Remote(Settings):
    """Trust and headers of one other system; the place itself is each kind's own."""

    tls: Tls | None = None
    """With a URL that has no scheme, this alone asks for TLS."""
    headers: Mapping[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Sent with every call (gRPC: as metadata)."""
    secret_headers: Mapping[HeaderName, Secret] = Field(default_factory=dict)
    """Header → the file that holds its value, such as ``Bearer …``; read for every call."""

    @model_validator(mode="after")
    def _no_header_twice(self) -> Self:
        names = [name.lower() for name in (*self.headers, *self.secret_headers)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"given twice in headers and secret_headers: {', '.join(twice)}")
        return self

    def secrets(self) -> dict[str, str]:
        """The secret headers, as their files hold them now.

        Raises:
            ValueError: a file can't be read, or holds what no header may. The message names it
                and does not quote it.
        """
        values = {}
        for name, secret in self.secret_headers.items():
            try:
                values[name] = secret.read()
            except ValueError as error:
                raise ValueError(f"secret_headers.{name}: {error}") from error
            if not _is_header_value(values[name]):
                raise ValueError(f"secret_headers.{name}: {secret.file} must hold one line of printable ASCII")
        return values


def one_line(text: str, hidden: Collection[str] = (), most: int = 300) -> str:
    """Foreign text as one short, printable line without any of `hidden`."""
    for secret in hidden:
        text = text.replace(secret, "***")
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a server is, parsed from its URL."""

    scheme: str
    """``http``, ``https``, or empty where the URL has none."""
    host_port: str
    prefix: str
    """Empty, or a path that begins with a slash and doesn't end with one."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError, saying what is allowed."""
        scheme, mark, _ = url.partition("://")
        try:
            parts = urlsplit(url if mark else f"//{url}")
        except ValueError as error:
            raise ValueError(f"{error}; {_ALLOWED}") from error
        if mark and scheme not in {"http", "https"}:
            raise ValueError(f"the scheme {scheme!r} is not known; {_ALLOWED}")
        if "@" in parts.netloc:
            raise ValueError(f"credentials don't belong into a URL: use secret_headers; {_ALLOWED}")
        if parts.query or parts.fragment or not _is_host_port(parts.netloc):
            raise ValueError(f"{url!r} is no server's address; {_ALLOWED}")
        return cls(scheme=parts.scheme, host_port=parts.netloc, prefix=parts.path.rstrip("/"))


def _is_host_port(netloc: str) -> bool:
    parts = urlsplit(f"//{netloc}")
    try:
        return bool(parts.hostname and parts.port) and not re.search(r"[\s\\]", netloc)
    except ValueError:  # a port that is none
        return False


def _checked_url(url: str) -> str:
    Place.parse(url)
    return url


class Server(Remote):
    """One server and how to speak to it."""

    url: Annotated[str, AfterValidator(_checked_url)]
    """``host:port``, or ``http(s)://host:port`` with an optional path prefix."""

    @model_validator(mode="after")
    def _tls_is_used(self) -> Self:
        if self.tls is not None and self.place.scheme == "http":
            raise ValueError("tls is given, but url says http://: write https://, or remove tls")
        return self

    @property
    def place(self) -> Place:
        return Place.parse(self.url)

    @property
    def secure(self) -> bool:
        return self.place.scheme == "https" or self.tls is not None

    @property
    def base_url(self) -> str:
        """With a scheme, and without a slash at the end."""
        return f"{'https' if self.secure else 'http'}://{self.place.host_port}{self.place.prefix}"


_IDLE_S = 75.0
"""A connection on which no whole request came for so long is closed, or anybody could hold them all."""


async def serve(
    app: "web.Application", listen: Listen, *, tls: ssl.SSLContext | None = None, **options: Any
) -> tuple["web.AppRunner", str]:
    """Serve until the runner is cleaned up.

    Args:
        app: what answers.
        listen: where.
        tls: what to speak TLS with; plain HTTP without it.
        options: of `web.AppRunner`, beyond what all servers here have.

    Returns:
        The runner, and the base URL in use.

    Raises:
        OSError: the address can't be listened on.
    """
    from aiohttp import web  # noqa: PLC0415 - only where it is used

    common = {"access_log": None, "handle_signals": False, "shutdown_timeout": 2.0, "keepalive_timeout": _IDLE_S}
    runner = web.AppRunner(app, **(common | options))
    await runner.setup()
    try:
        await web.TCPSite(runner, *address_of(listen), ssl_context=tls).start()
    except (OSError, UnicodeError) as error:  # the latter for a host that can't be a name
        await runner.cleanup()
        raise OSError(getattr(error, "errno", None), f"can't listen on {listen}: {error}") from error
    host, port = runner.addresses[0][:2]
    scheme = "http" if tls is None else "https"
    return runner, f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
