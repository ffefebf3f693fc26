"""Measures what spans of patients' requests cost the trace intake, beside parsing every body.

    python -m bench.spans [--quick] [--out FILE]

Each receiver is a process of its own on this machine, and gets the same spans at the same rate, one
receiver after the other: the intake as JSON and as protobuf, and a naive one that parses all JSON.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from rich.console import Console
from rich.table import Table

from bench import about
from watchdog.traces import TracesSettings
from watchdog.traces.intake import listen
from watchdog.traces.otlp import Format

_OUT = Path(__file__).with_name("results") / "spans.json"
_AIM = 0.5
_SPANS_PER_S = 10_000
_REQUESTS_PER_BODY = 170  # of 3 spans: Triton sends at most 512 at a time
_SPANS_PER_BODY = 3 * _REQUESTS_PER_BODY
_BODIES = 8
"""Different ones, sent in turns."""
_PREFIX = "5eed5eed"
_PACKAGES = ("inference-watchdog", "aiohttp", "opentelemetry-proto", "protobuf")
_STARTS_WITHIN_S = 60.0

_EVENTS = {
    "compute": ("COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"),
    "lung_nodule": ("REQUEST_START", "QUEUE_START", "REQUEST_END"),
    "InferRequest": ("HTTP_RECV_START", "HTTP_RECV_END", "INFER_RESPONSE_COMPLETE", "HTTP_SEND_START", "HTTP_SEND_END"),
}
"""By span: what Triton reports of a request, in the order in which it does."""


class Receiver(StrEnum):
    INTAKE = "intake"
    NAIVE = "naive"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What receiving took."""

    core_share: float
    """Processor seconds per second."""
    spans_per_s: float
    """As they were taken."""
    rss_before_mib: float
    rss_after_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.spans", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    figures = _measure(1.0 if arguments.quick else 10.0) | {"quick": arguments.quick}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)
    Console(soft_wrap=True, highlight=False).print(f"written to {arguments.out}")


def _measure(wall_s: float) -> dict[str, Any]:
    chance = random.Random(7)
    in_json = [_in_json(chance) for _ in range(_BODIES)]
    in_protobuf = [_in_protobuf(body) for body in in_json]
    json_cost = _cost(Receiver.INTAKE, Format.JSON, in_json, wall_s)
    protobuf_cost = _cost(Receiver.INTAKE, Format.PROTOBUF, in_protobuf, wall_s)
    naive_cost = _cost(Receiver.NAIVE, Format.JSON, in_json, wall_s)
    return {
        "core_share_json": json_cost.core_share,
        "core_share_protobuf": protobuf_cost.core_share,
        "naive_ratio": naive_cost.core_share / json_cost.core_share,
        "spans_per_s": _SPANS_PER_S,
        "body_bytes": {"json": len(in_json[0]), "protobuf": len(in_protobuf[0])},
        "raw": {"json": asdict(json_cost), "protobuf": asdict(protobuf_cost), "naive_json": asdict(naive_cost)},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about.machine(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _cost(receiver: Receiver, form: Format, bodies: Sequence[bytes], wall_s: float) -> Cost:
    with _receiving(receiver) as (url, process):
        asyncio.run(_send(url, form, bodies, 0.5))  # what is only done once: imports, connections
        rss_before, used_before = process.memory_info().rss, _used_s(process)
        began = time.perf_counter()
        sent = asyncio.run(_send(url, form, bodies, wall_s))
        wall = time.perf_counter() - began
        return Cost(
            core_share=(_used_s(process) - used_before) / wall,
            spans_per_s=sent * _SPANS_PER_BODY / wall,
            rss_before_mib=rss_before / 2**20,
            rss_after_mib=process.memory_info().rss / 2**20,
        )


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _send(url: str, form: Format, bodies: Sequence[bytes], wall_s: float) -> int:
    """How many bodies were taken; each is sent when it is due, whatever became of the one before.

    Raises:
        RuntimeError: one was refused, so that something else was measured.
    """
    number = max(1, round(wall_s * _SPANS_PER_S / _SPANS_PER_BODY))
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with aiohttp.ClientSession(headers={"Content-Type": form}) as session:
        for at, body in zip(range(number), cycle(bodies), strict=False):
            await asyncio.sleep(began + at * _SPANS_PER_BODY / _SPANS_PER_S - loop.time())
            async with session.post(url, data=body) as response:
                if response.status != 200:
                    raise RuntimeError(f"the receiver answered {response.status}: {await response.text()}")
    return number


@contextmanager
def _receiving(receiver: Receiver) -> Iterator[tuple[str, psutil.Process]]:
    """The URL to send to, and the process that receives; killed on leaving."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_receive, args=(receiver, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(_STARTS_WITHIN_S):
            raise RuntimeError(f"the receiver {receiver} does not start")
        yield ours.recv(), psutil.Process(process.pid)
    finally:
        process.kill()
        process.join()


def _receive(receiver: Receiver, pipe: Connection) -> None:
    asyncio.run(_listen(receiver, lambda url: pipe.send(f"{url}/v1/traces")))


async def _listen(receiver: Receiver, listening: Callable[[str], None]) -> None:
    match receiver:
        case Receiver.INTAKE:
            settings = TracesSettings(listen="127.0.0.1:0")
            listening((await listen(settings, _ignore, _ignore, _PREFIX)).url)
        case Receiver.NAIVE:
            app = web.Application(client_max_size=8 * 2**20)
            app.router.add_post("/v1/traces", _parse_all)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            listening(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


def _ignore(*_: object) -> None:
    pass


async def _parse_all(request: web.Request) -> web.Response:
    """As one would write it first."""
    for resource in json.loads(await request.read())["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            _ignore([span for span in scope["spans"] if span["traceId"].startswith(_PREFIX)])
    return web.json_response({})


def _in_json(chance: random.Random) -> bytes:
    """As Triton writes it: its order of keys, no spaces, times as texts."""
    spans = [span for _ in range(_REQUESTS_PER_BODY) for span in _request(chance)]
    scope = {"scope": {"name": "triton-server"}, "spans": spans}
    service = {"key": "service.name", "value": {"stringValue": "triton-inference-server"}}
    body = {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": [scope]}]}
    return json.dumps(body, separators=(",", ":")).encode()


def _request(chance: random.Random) -> Iterator[dict[str, Any]]:
    trace_id = f"{chance.getrandbits(128):032x}"
    ids = [f"{chance.getrandbits(64):016x}" for _ in range(4)]
    start = 1_795_560_742_000_000_000 + chance.randrange(10**9)
    attributes = [
        {"key": "triton.model_name", "value": {"stringValue": "lung_nodule"}},
        {"key": "triton.model_version", "value": {"intValue": "2"}},
    ]
    for (name, events), span_id, parent_id in zip(_EVENTS.items(), ids, ids[1:], strict=False):
        yield {
            **({"attributes": attributes} if name == "lung_nodule" else {}),
            "endTimeUnixNano": str(start + 1_190_000),
            "events": [{"name": event, "timeUnixNano": str(start + 1000 * n)} for n, event in enumerate(events)],
            "kind": 2,
            "name": name,
            "parentSpanId": parent_id,
            "spanId": span_id,
            "startTimeUnixNano": str(start),
            "traceId": trace_id,
        }


def _in_protobuf(body: bytes) -> bytes:
    from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]  # noqa: PLC0415 - for one format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: PLC0415

    parsed = json.loads(body)
    for span in parsed["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for key in ("traceId", "spanId", "parentSpanId"):
            span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()  # as protobuf's own JSON has it
    return bytes(ParseDict(parsed, ExportTraceServiceRequest()).SerializeToString())


def _show(figures: dict[str, Any]) -> None:
    machine, versions = figures["machine"], figures["versions"]
    title = f"inference-watchdog {versions['inference-watchdog']}, Python {machine['python']}, {machine['cores']} cores"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("spans of others", "core", "aim", "measured"):
        table.add_column(name, justify="right" if name in {"core", "aim"} else "left")
    for what, key, aim in (
        ("intake, JSON", "json", f"≤ {_AIM:g}"),
        ("intake, protobuf", "protobuf", f"≤ {_AIM:g}"),
        ("naive, JSON", "naive_json", ""),
    ):
        cost = figures["raw"][key]
        memory = f"{cost['rss_before_mib']:.1f} → {cost['rss_after_mib']:.1f} MiB"
        table.add_row(what, f"{cost['core_share']:.3f}", aim, f"{cost['spans_per_s']:.0f} spans/s; {memory}")
    table.add_row("naive ÷ intake", f"{figures['naive_ratio']:.1f}", "", "JSON")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
