"""What went wrong on the way to an HTTP server, in words: for adapters that speak aiohttp."""

import aiohttp


def said(error: Exception) -> str:
    """One line, without URL, headers or anything else that was sent."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted ({error.certificate_error}); set `tls.ca`"
        case aiohttp.ClientConnectorError():
            return f"can't connect ({error.os_error})"
        case aiohttp.ServerDisconnectedError():
            return "the connection broke before an answer"
        case OSError():  # after the connector's own: a reset, or a TLS alert
            return f"the connection broke before an answer ({error.strerror})"
        case _:
            return f"no usable answer in HTTP ({type(error).__name__})"
