"""A process that has imported everything, and forks a watchdog for each order that it is given.

    python -m bench.kills.nursery CONFIG

Orders come on the standard input, a line of JSON each, one after another; what became of them goes to the standard
output in the same way. Start-up would cost most of a watchdog's short life: imports, and reading the canaries, which
all of them share. Neither gRPC nor asyncio nor a thread is begun before a fork, since none of them would survive one.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.kills.order import Order
from bench.kills.points import Points
from watchdog import config, watching
from watchdog.assembly import listen_for_traces, load_inputs
from watchdog.cycle import Cycle
from watchdog.evidence.files import FileEvidence
from watchdog.journal.reading import FILE_NAME
from watchdog.journal.steady import SteadyJournal
from watchdog.model.event import CycleFailed
from watchdog.model.journal import Entry, EntryKind
from watchdog.ports import Event

_IMPORTED_LATER = (
    "charset_normalizer",
    "scipy.special",
    "tritonclient.grpc.aio",
    "tritonclient.http",
    "watchdog.endpoints.http_server",
    "watchdog.routers.envoy_admin",
    "watchdog.routers.triton_repository",
)
"""What a watchdog imports only where it is needed, which here is always."""
_HANGS_S = 90
"""A watchdog that lives so long is ended, and the run with it."""
_ROUNDS = 200
"""Far more than any change of a route takes."""


def main() -> None:
    for name in _IMPORTED_LATER:
        importlib.import_module(name)
    settings = config.read(Path(sys.argv[1]))
    (model,) = settings.models
    inputs = load_inputs(model)
    vars(watching)["load_inputs"] = lambda _: inputs
    for line in sys.stdin:
        order = Order.from_json(line)
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            _live(settings, order)
        _, status = os.waitpid(child, 0)
        _say({"ended": os.waitstatus_to_exitcode(status), "took_s": time.perf_counter() - began})


def _live(settings: config.Config, order: Order) -> None:
    """The whole life of a forked process; it does not return."""
    signal.alarm(_HANGS_S)
    try:
        points = Points(order.kill_at, _say)
        points.arm()
        asyncio.run(_watch(settings, order))
        _say({"points": points.reached})
    except BaseException:  # noqa: BLE001 - what is above belongs to the process that was forked
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


async def _watch(settings: config.Config, order: Order) -> None:
    """What `watchdog.app.run` does, without its HTTP server, and at its own pace."""
    journal = SteadyJournal(order.state / FILE_NAME, settings.journal)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(journal.close)
        timekeeper = await stack.enter_async_context(listen_for_traces(None, lambda _outcome, _count: None))
        await journal.append(Entry(at=time.time(), kind=EntryKind.STARTED, model="", data={}))
        evidence = FileEvidence(order.state / "evidence")
        whole = await watching.assemble(settings, journal, evidence, _observe, clock=time.time, timekeeper=timekeeper)
        stack.push_async_callback(whole.close)
        (cycle,) = whole.cycles.values()
        if order.command is None:
            await _rest(cycle, order)
        else:
            await cycle.tick()
            await cycle.command(order.command, "bench", "")
        _say({"rests": cycle.state.to_json()})


async def _rest(cycle: Cycle, order: Order) -> None:
    """Probe and look, without a pause, until the policy rests where it should, or for long enough."""
    calm = 0
    for _ in range(_ROUNDS):
        before = cycle.state
        await cycle.tick()
        await cycle.look_at_route()
        calm = calm + 1 if cycle.state == before else 0
        if cycle.state.state in order.ends and calm >= order.calm_rounds:
            return


def _observe(event: Event) -> None:
    if isinstance(event, CycleFailed):
        _say({"failed": event.error})


def _say(fact: Mapping[str, Any]) -> None:
    """Written at once, and whole: a pipe takes so few bytes in one piece."""
    os.write(sys.stdout.fileno(), f"{json.dumps(fact)}\n".encode())


if __name__ == "__main__":
    main()
