"""A server of the Open Inference Protocol over HTTP, as both HTTP kinds of endpoint speak to it.

Imported only where such an endpoint is opened, since it needs aiohttp.

Why aiohttp, and not tritonclient's own asyncio client, also for Triton: that one gives access to
no response header (``Server-Timing``), reads and unpacks answers of any size, follows redirects
with the secret headers on, raises a ResourceWarning for inputs above 1 MiB, and lets Triton
compress every answer, which took ten times as long as the request itself. Requests to Triton are
still built by tritonclient, see ``triton_http.py``.
"""

import io
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from watchdog.endpoints import oip_answer
from watchdog.endpoints.connection import Connection
from watchdog.endpoints.description import Answers, offers_traces, optional
from watchdog.endpoints.faults import (
    GARBLED,
    REFUSED,
    TIMEOUT,
    TLS,
    TLS_FILES,
    FaultError,
    Ruling,
    garbled,
    ruling,
    unforeseen,
)
from watchdog.endpoints.headers import Headers
from watchdog.endpoints.server import ServerSettings
from watchdog.endpoints.statistics import read_statistics
from watchdog.model.engine import Address, Description
from watchdog.model.fault import Fault
from watchdog.model.load import Statistics
from watchdog.model.probe import Attribution, InferRequest, Reply, Timing
from watchdog.transport import one_line

_Sending = AbstractAsyncContextManager[aiohttp.ClientResponse]

_MAX_ERROR_BYTES = 64 * 1024
_DEVICE = re.compile(r"(?:^|,)\s*device\s*;(?:[^,]*;)?\s*dur\s*=\s*\"?(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What is posted."""

    content: bytes
    content_type: str = "application/json"
    json_length: int | None = None
    """Where the JSON ends and raw tensor bytes begin, if there are any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A 200 with its whole body."""

    body: bytes
    header_length: str | None
    device_s: float | None


class HttpServer:
    """Sends requests and reads answers, within limits of time and size."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._base = f"{settings.base_url}/v2"
        self._connection = Connection(self._open, aiohttp.ClientSession.close)

    async def infer(
        self, request: InferRequest, encode: Callable[[InferRequest], Body], timeout_s: float
    ) -> Reply | Fault:
        return await self._connection.settled(self._infer(request, encode), timeout_s, _translated)

    async def describe(self, address: Address, timeout_s: float) -> Description | Fault:
        return await self._connection.settled(self._describe(address), timeout_s, _translated)

    async def statistics(self, address: Address, timeout_s: float) -> Statistics | Fault:
        return await self._connection.settled(self._statistics(address), timeout_s, _translated)

    async def close(self) -> None:
        await self._connection.close()

    async def _infer(self, request: InferRequest, encode: Callable[[InferRequest], Body]) -> Reply:
        sent_at, start = time.time(), time.perf_counter()
        body = encode(request)
        written = time.perf_counter()
        answer = await self._call("POST", f"{_model_path(request.address)}/infer", body, request.headers)
        answered = time.perf_counter()
        outputs, answered_by = oip_answer.decode(answer.body, answer.header_length, request.outputs)
        end = time.perf_counter()
        timing = Timing(
            sent_at=sent_at,
            total_s=end - start,
            client_s=(written - start) + (end - answered),
            device_s=answer.device_s,
            attribution=Attribution.NONE if answer.device_s is None else Attribution.SERVER_TIMING,
        )
        return Reply(outputs=outputs, answered_by=answered_by, timing=timing)

    async def _describe(self, address: Address) -> Description:
        path, trace_path = _model_path(address), f"{_model_path(replace(address, version=''))}/trace/setting"
        model = await self._get(path)
        server = await self._get("")
        return Answers(
            model=model,
            server=server,
            config=await optional(self._get(f"{path}/config")),
            statistics=await optional(self._get(f"{path}/stats")),
            index=await optional(self._index()),
            tracing=await optional(self._get(trace_path)) if offers_traces(server) else None,
        ).describe(address)

    async def _statistics(self, address: Address) -> Statistics:
        return read_statistics(await self._get(f"{_model_path(address)}/stats"), address)

    async def _get(self, path: str) -> dict[str, Any]:
        return oip_answer.parse_object((await self._call("GET", path)).body)

    async def _index(self) -> list[dict[str, Any]]:
        parsed = oip_answer.parse((await self._call("POST", "/repository/index", Body(content=b"{}"))).body)
        if not isinstance(parsed, list) or not all(isinstance(each, dict) for each in parsed):
            raise garbled("the repository index is no list of objects")
        return parsed

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_tls_context(self._settings)),
            cookie_jar=aiohttp.DummyCookieJar(),  # a gateway's sticky cookie must not bind the canaries to one replica
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # `settled` keeps the one deadline
            headers={"Accept-Encoding": "identity", "User-Agent": "inference-watchdog"},
            auto_decompress=False,
            read_bufsize=2**20,
            trace_configs=[_noting_reuse()],
        )

    async def _call(
        self, method: str, path: str, body: Body | None = None, extra: Mapping[str, str] | None = None
    ) -> Answer:
        headers = Headers.of_call(self._settings, extra or {})
        async with self._connection.lease() as session:
            while True:
                met = SimpleNamespace(reused=False)
                sending = session.request(
                    method,
                    URL(self._base + path, encoded=True),
                    data=None if body is None else io.BytesIO(body.content),  # above 1 MiB, bytes raise a warning
                    headers={**headers.values, **_content_headers(body)},
                    allow_redirects=False,
                    server_hostname=self._settings.tls.server_name if self._settings.tls else None,
                    trace_request_ctx=met,
                )
                try:
                    return await self._answer(sending, headers)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if not met.reused:
                        raise
                    # The server ended an idle connection at the very moment we took it: no fault, take another.

    async def _answer(self, sending: _Sending, headers: Headers) -> Answer:
        async with sending as response:
            if response.status != 200:
                raise FaultError(await _refusal(response, headers))
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise garbled("the answer is compressed, which was not asked for")
            return Answer(
                body=await _read(response, self._settings.max_response_bytes),
                header_length=response.headers.get("Inference-Header-Content-Length"),
                device_s=_device_s(response),
            )


def _model_path(address: Address) -> str:
    version = f"/versions/{quote(address.version, safe='')}" if address.version else ""
    return f"/models/{quote(address.model, safe='')}{version}"


def _content_headers(body: Body | None) -> dict[str, str]:
    if body is None:
        return {}
    split = {} if body.json_length is None else {"Inference-Header-Content-Length": str(body.json_length)}
    return {"Content-Type": body.content_type, **split}


def _tls_context(settings: ServerSettings) -> ssl.SSLContext | bool:
    if settings.tls is None:
        return True
    try:
        return settings.tls.context()
    except ValueError as error:
        raise FaultError(TLS_FILES.fault(str(error))) from error


def _noting_reuse() -> aiohttp.TraceConfig:
    async def note(
        _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceConnectionReuseconnParams
    ) -> None:
        context.trace_request_ctx.reused = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(note)
    return trace


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, which a server may announce or send longer than we would hold."""
    chunks: list[bytes] = []
    room = limit - (response.content_length or 0)
    if room >= 0:
        room = limit
        async for chunk in response.content.iter_any():
            room -= len(chunk)
            if room < 0:
                break
            chunks.append(chunk)
    if room < 0:
        raise garbled(f"the answer is longer than max_response_bytes, {limit}")
    return b"".join(chunks)


async def _refusal(response: aiohttp.ClientResponse, headers: Headers) -> Fault:
    """What another status than 200 means, with the server's reason where it is given as JSON."""
    said = ""
    try:
        parsed = oip_answer.parse_object(await _read(response, _MAX_ERROR_BYTES))
        said = str(parsed.get("error") or parsed.get("detail") or "")
    except FaultError:
        said = "a redirect, which is not followed: give the final address" if response.status // 100 == 3 else ""
    text = one_line(said, headers.hidden)
    return ruling(response.status, text).fault(f"HTTP {response.status}: {text or 'without a reason in JSON'}")


def _device_s(response: aiohttp.ClientResponse) -> float | None:
    found = _DEVICE.search(",".join(response.headers.getall("Server-Timing", ())))
    return float(found[1]) / 1000 if found else None


_RULINGS: tuple[tuple[type[Exception], Ruling, str], ...] = (
    (aiohttp.ClientConnectorDNSError, REFUSED, "cannot resolve the host's name"),
    (aiohttp.ClientConnectorError, REFUSED, "cannot connect"),
    (aiohttp.ServerDisconnectedError, REFUSED, "the connection was closed without an answer"),
    (aiohttp.ServerTimeoutError, TIMEOUT, "no answer"),
    (aiohttp.ClientOSError, REFUSED, "the connection broke"),
    (ConnectionError, REFUSED, "the connection broke"),
    (aiohttp.ClientConnectionError, REFUSED, "the connection was closed"),
    (aiohttp.ClientPayloadError, GARBLED, "the connection broke off within the answer"),
    (aiohttp.ClientResponseError, GARBLED, "the answer is not HTTP"),
)
"""What aiohttp raises, the more special first."""


def _translated(error: Exception) -> Fault:
    cause = _ssl_cause(error)
    if cause or isinstance(error, aiohttp.ClientSSLError):
        return TLS.fault(f"TLS failed: {_ssl_reason(cause)}")
    for kind, found, detail in _RULINGS:
        if isinstance(error, kind):
            reason = getattr(error, "strerror", None)
            return found.fault(f"{detail}: {reason}" if reason else detail)
    return unforeseen(error)


def _ssl_cause(error: BaseException) -> ssl.SSLError | None:
    """What the ssl module itself raised, below aiohttp's errors (some of which are `ssl.SSLError` in name)."""
    below = error.__cause__ or error.__context__
    cause = _ssl_cause(below) if below else None
    own = error if isinstance(error, ssl.SSLError) and not isinstance(error, aiohttp.ClientError) else None
    return cause or own


def _ssl_reason(cause: ssl.SSLError | None) -> str:
    """Never the text of the error itself, which is for programmers."""
    return getattr(cause, "verify_message", "") or (cause.reason if cause else "") or "no reason given"
