"""TLS for the watchdog's own servers, with certificates that are rotated while they run."""

import ssl
from collections.abc import Callable
from pathlib import Path

from watchdog.settings import LocalPath, Settings

Signature = tuple[tuple[int, int, int], ...]


class ServerTls(Settings):
    """Certificates of a server of the watchdog's own. The files are read again when they have changed."""

    cert: LocalPath
    """PEM file of the server's certificate chain."""
    key: LocalPath
    """PEM file of its key, without a pass phrase."""
    client_ca: LocalPath | None = None
    """PEM file of the authorities whose clients may ask; without a certificate of theirs there is only health."""


def server_context(settings: ServerTls, complain: Callable[[str], None]) -> ssl.SSLContext:
    """What a server listens with; TLS 1.2 at least.

    Args:
        settings: the files.
        complain: told, once for each state of the files, that they have changed and can't be
            used. The certificate that was read last goes on until they can.

    Raises:
        ValueError: the files can't be used now.
    """
    return _Rotating(settings, complain).context


class _Rotating:
    """A context that hands each new connection to the newest one.

    A context can't be changed as a whole: authorities can be added to it, but not taken away.
    """

    def __init__(self, settings: ServerTls, complain: Callable[[str], None]) -> None:
        self._settings = settings
        self._complain = complain
        self._files = [file for file in (settings.cert, settings.key, settings.client_ca) if file is not None]
        self._seen = self._signature()
        self._newest = self.context = _load(settings)
        # OpenSSL calls this for every client, whether it names a server or not.
        self.context.sni_callback = self._take_newest

    def _take_newest(self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
        signature = self._signature()
        if signature != self._seen:
            self._seen = signature  # of before the files are read: a change meanwhile is seen the next time
            try:
                self._newest = _load(self._settings)
            except ValueError as error:
                self._complain(f"api.tls: {error}; the certificate that was read last goes on")
        connection.context = self._newest

    def _signature(self) -> Signature:
        return tuple(_state_of(file) for file in self._files)


def _state_of(file: Path) -> tuple[int, int, int]:
    try:
        stat = file.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)


def _load(settings: ServerTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET  # nobody comes back on the strength of a certificate that is no longer trusted
    context.num_tickets = 0
    at = settings.cert
    try:
        context.load_cert_chain(settings.cert, settings.key, password="")  # None would ask the terminal for one
        if settings.client_ca is not None:
            at = settings.client_ca
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL  # the application says what is open without one
    except OSError as error:
        beside = f" with {settings.key}" if at is settings.cert else ""
        raise ValueError(f"{at}{beside} can't be used ({error})") from error
    return context
