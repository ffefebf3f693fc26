"""Who is measured, on what, and on which terms."""

from dataclasses import dataclass

from bench.drift.classifier import DIGITS
from bench.drift.measure import RUN_IN
from bench.drift.ours import Ours
from bench.drift.peers import OTHERS
from bench.drift.streams import BIMODAL, SKEWED
from bench.drift.subject import Subject, ToCalibrate

ARL = 3e7
"""Observations to a false alarm that are wanted: one a year at one a second."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    sizes: tuple[int, ...] = (10_000, 1_000)
    """Of its references; of no use to a detector that doesn't learn."""
    run_in: int = RUN_IN
    """Quiet observations before each change."""
    long_quiet: bool = False
    """Whether its false alarms are so rare that they are looked for in very many observations."""


OURS: tuple[Subject | ToCalibrate, ...] = (
    Ours(name="watchdog", arl_promised=ARL),
    Ours(name="watchdog, settled", arl_promised=ARL),
    Ours(name="watchdog at 1e5", arl_promised=1e5),
)
CONTESTANTS = {contestant.name: contestant for contestant in (*OURS, *OTHERS)}
STREAMS = {stream.name: stream for stream in (BIMODAL, SKEWED, DIGITS)}
_UNUSUAL = {
    "watchdog": Terms(long_quiet=True),
    # Its pool has grown by then, so that it sees what a thousand observations cannot show.
    "watchdog, settled": Terms(sizes=(1_000,), run_in=10_000),
}


def terms(contestant: str) -> Terms:
    return _UNUSUAL.get(contestant, Terms())
