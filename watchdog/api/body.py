"""Reading what a client sends, bounded in size and in time."""

import asyncio
import contextlib

from aiohttp import web

_WITHIN_S = 30.0
"""A body that takes longer to arrive is given up: it holds a handler, and perhaps a place in a queue."""


async def read(request: web.Request, limit: int) -> bytes:
    """The whole body, which may announce or be more than we would hold, or never end.

    Args:
        request: of which nothing is read yet.
        limit: of bytes, once they are decompressed.

    Raises:
        web.HTTPException: the body is not to be had; 400, 408 or 413.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_WITHIN_S):
            while max(len(body), request.content_length or 0) <= limit and (chunk := await request.content.readany()):
                body += chunk
    except web.RequestPayloadError as error:
        raise web.HTTPBadRequest(text="the body is not what its headers announce") from error
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"the body did not arrive within {_WITHIN_S:g} s") from error
    if (size := max(len(body), request.content_length or 0)) > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=size)
    return bytes(body)


async def drain(request: web.Request) -> None:
    """Let the body pass, so that the connection can be used again; one that dawdles is closed."""
    with contextlib.suppress(web.RequestPayloadError, TimeoutError):
        async with asyncio.timeout(_WITHIN_S):
            async for _ in request.content.iter_any():
                pass
