"""Which pages a client may have without a certificate, where certificates are asked for."""

import ssl

from aiohttp import web

_OPEN = frozenset({"/-/healthy", "/-/ready", "/-/ready/{model}"})
"""A kubelet's probes have no certificate to show, and these tell nothing that is worth one."""


def is_missing(request: web.Request) -> bool:
    """Whether the client had to show a certificate and has shown none. One that is not trusted gets no connection."""
    connection = None if request.transport is None else request.transport.get_extra_info("ssl_object")
    if connection is None or connection.context.verify_mode is ssl.CERT_NONE or connection.getpeercert():
        return False
    resource = request.match_info.route.resource
    return resource is None or resource.canonical not in _OPEN
