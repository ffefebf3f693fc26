"""Receives servers' traces on a port of its own: ``POST /v1/traces``, as OTLP/HTTP has it."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence

from aiohttp import hdrs, web

from watchdog.model.span import Span
from watchdog.traces import Outcome, TracesSettings
from watchdog.traces.forward import Batch, Forwarder
from watchdog.traces.otlp import (
    MAX_BYTES,
    Format,
    MalformedError,
    TooLargeError,
    UnsupportedError,
    answer,
    decode,
    unpack,
)
from watchdog.transport import serve

_MOST_HELD = 4 * MAX_BYTES
"""Of all bodies that are here at a time. One more is refused, as the sender may try again."""
_OWN_COST = 2**16
"""Of any body, however small: what its connection holds."""
_WITHIN_S = 10.0
_RPC_CODES = {400: 3, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 503: 14}
"""HTTP status → google.rpc.Code"""

Take = Callable[[Sequence[Span]], None]
Count = Callable[[str, int], None]
"""Given an `Outcome` and how many."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Listening:
    """Receives until it is closed."""

    def __init__(self, url: str, runner: web.AppRunner, forwarder: Forwarder | None) -> None:
        self.url = url
        self.forwarder = forwarder
        self._runner = runner

    async def close(self) -> None:
        """Stop receiving, then forwarding: what the collector has not taken by then is lost."""
        await self._runner.cleanup()
        if self.forwarder is not None:
            await self.forwarder.close()


async def listen(settings: TracesSettings, take: Take, count: Count, prefix: str) -> Listening:
    """Receive traces.

    Args:
        settings: where, and where to forward to.
        take: given the spans whose trace id begins with `prefix`, as soon as they arrive. They may
            be repeated, belong to no request of ours, or be made up: anybody may send them.
        count: told what became of everything else as well.
        prefix: see `otlp.decode`.

    Raises:
        OSError: the address can't be listened on.
    """
    forwarder = None if settings.forward is None else Forwarder(settings.forward, count)
    intake = _Intake(take, count, prefix, forwarder)
    app = web.Application(middlewares=[_errors_as_status])
    app.router.add_post("/v1/traces", intake.traces)
    runner, url = await serve(app, settings.listen, auto_decompress=False, lingering_time=1.0)
    if forwarder is not None:
        forwarder.start()
    return Listening(url, runner, forwarder)


class _RefusedError(Exception):
    """A body that is not taken."""

    def __init__(self, outcome: Outcome, refusal: web.HTTPException) -> None:
        super().__init__(refusal.text)
        self.outcome = outcome
        self.refusal = refusal


class _Intake:
    def __init__(self, take: Take, count: Count, prefix: str, forwarder: Forwarder | None) -> None:
        self._take = take
        self._count = count
        self._prefix = prefix
        self._forwarder = forwarder
        self._held = 0
        self._decoding = asyncio.Lock()  # a parsed body takes many times its size: one at a time

    async def traces(self, request: web.Request) -> web.Response:
        try:
            form, rejected = await self._received(request)
        except _RefusedError as refused:
            self._count(refused.outcome, 1)
            raise refused.refusal from refused
        return web.Response(body=answer(form, rejected), headers={hdrs.CONTENT_TYPE: form})

    async def _received(self, request: web.Request) -> tuple[Format, int]:
        """The body's format, and how many of its spans were rejected."""
        form, encoding = _form(request), request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
        with self._holding() as hold:
            body = await _read(request, hold)
            try:
                async with self._decoding:
                    decoded = await asyncio.to_thread(lambda: decode(unpack(body, encoding), form, self._prefix))
            except UnsupportedError as error:
                raise _RefusedError(Outcome.UNSUPPORTED, web.HTTPUnsupportedMediaType(text=str(error))) from error
            except MalformedError as error:
                raise _RefusedError(Outcome.MALFORMED, web.HTTPBadRequest(text=str(error))) from error
            except TooLargeError as error:
                raise _too_large(str(error)) from error
        if self._forwarder is not None:
            self._forwarder.put(Batch(body=body, content_type=form, encoding=encoding))
        for outcome, number in (
            (Outcome.OURS, len(decoded.spans)),
            (Outcome.REJECTED, decoded.rejected),
            (Outcome.FOREIGN, decoded.foreign_about),
        ):
            if number:
                self._count(outcome, number)
        if decoded.spans:
            self._take(decoded.spans)
        return form, decoded.rejected

    @contextlib.contextmanager
    def _holding(self) -> Iterator[Callable[[int], None]]:
        """Memory for one body. What it gives takes more of it, or raises."""
        mine = 0

        def hold(more: int) -> None:
            nonlocal mine
            if self._held + more > _MOST_HELD:
                refusal = web.HTTPServiceUnavailable(text="too much arrives at once", headers={hdrs.RETRY_AFTER: "1"})
                raise _RefusedError(Outcome.BUSY, refusal)
            mine += more
            self._held += more

        try:
            hold(_OWN_COST)
            yield hold
        finally:
            self._held -= mine


def _form(request: web.Request) -> Format:
    try:
        return Format(request.content_type)
    except ValueError as error:
        refusal = web.HTTPUnsupportedMediaType(text=f"the content type must be {' or '.join(Format)}")
        raise _RefusedError(Outcome.UNSUPPORTED, refusal) from error


async def _read(request: web.Request, hold: Callable[[int], None]) -> bytes:
    """The whole body, which may announce or be more than we would hold, or never end."""
    body = bytearray()
    try:
        async with asyncio.timeout(_WITHIN_S):
            while max(len(body), request.content_length or 0) <= MAX_BYTES:
                if not (chunk := await request.content.readany()):
                    return bytes(body)
                hold(len(chunk))
                body += chunk
    except (web.RequestPayloadError, ConnectionError) as error:
        refusal = web.HTTPBadRequest(text="the body ended before it was whole")
        raise _RefusedError(Outcome.UNFINISHED, refusal) from error
    except TimeoutError as error:
        late = web.HTTPRequestTimeout(text=f"the body did not arrive within {_WITHIN_S:g} s")
        raise _RefusedError(Outcome.UNFINISHED, late) from error
    raise _too_large(f"a body may have {MAX_BYTES} bytes")


def _too_large(text: str) -> _RefusedError:
    refusal = web.HTTPRequestEntityTooLarge(max_size=MAX_BYTES, actual_size=MAX_BYTES, text=text)
    return _RefusedError(Outcome.TOO_LARGE, refusal)


@web.middleware
async def _errors_as_status(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals as a ``google.rpc.Status``, in JSON whatever the request was written in."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        body = {"code": _RPC_CODES.get(error.status, 2), "message": error.text or error.reason}
        kept = {name: error.headers[name] for name in (hdrs.ALLOW, hdrs.RETRY_AFTER) if name in error.headers}
        return web.json_response(body, status=error.status, headers=kept, dumps=json.dumps)
