"""What was aimed at before anything was measured, and what became of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Found = Mapping[str, float | None]
"""Where → what was measured there; None where some run never found the change."""
Measure = Callable[[Sequence[Row], Row], Found]

_OURS, _CANARIES = "watchdog", "watchdog canaries"
_LARGE, _SMALL = 10_000, 1_000
_WANTED = 3e7
_EVERY = 1e9


@dataclass(frozen=True, kw_only=True)
class Aim:
    what: str
    limit: float
    unit: str
    """After the limit."""
    measure: Measure
    """From the rows and the summary file; empty where it was not measured."""
    enough: Callable[[Sequence[Row]], bool] = lambda _rows: True
    """Whether there were enough observations to tell."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    aim: Aim
    found: Found
    verdict: str


def judge(rows: Sequence[Row], about: Row) -> list[Outcome]:
    return [_outcome(aim, aim.measure(rows, about), rows) for aim in AIMS]


def _outcome(aim: Aim, found: Found, rows: Sequence[Row]) -> Outcome:
    missed = [where for where, value in found.items() if value is None or value > aim.limit]
    if not found:
        verdict = "not measured"
    elif missed:
        verdict = "missed" if len(missed) == len(found) else f"missed: {', '.join(missed)}"
    else:
        verdict = "reached" if aim.enough(rows) else "too few observations to tell"
    return Outcome(aim=aim, found=found, verdict=verdict)


def _ratio(change: str) -> Measure:
    """Of the median delay to the oracle's, on each stream."""

    def measure(_rows: Sequence[Row], about: Row) -> Found:
        return {
            stream: by_change[change]
            for one in _of(about["summary"], _OURS, _LARGE)
            for stream, by_change in one["ratios"].items()
            if change in by_change
        }

    return measure


def _mean_ratio(_rows: Sequence[Row], about: Row) -> Found:
    return {", ".join(one["ratios"]): one["ratio_to_oracle"] for one in _of(about["summary"], _OURS, _LARGE)}


def _delay(key: str, *changes: str, detector: str = _OURS, size: int | None = _LARGE) -> Measure:
    """In observations, where no run missed the change; of canaries' medians those that count it at the bound."""

    def measure(rows: Sequence[Row], about: Row) -> Found:
        found = {}
        for row in _of(rows, detector, size):
            if row["change"] in changes:
                where = (row["change"] if len(changes) > 1 else "", row["stream"] if size else "")
                delay = None if row["missed"] else row[key]
                if key == "delay_median":
                    delay = about["at_bound"].get(detector, {}).get(row["change"], delay)
                found[" on ".join(filter(None, where))] = delay
        return found

    return measure


def _missed_in_spite(rows: Sequence[Row], about: Row) -> Found:
    """Runs without an alarm, of changes that a thousand observations can show."""
    visible = {
        (one["stream"], one["change"])
        for one in about["oracle"]
        if one["divergence"] is None or one["divergence"] > math.log(_WANTED) / _SMALL
    }
    missed: dict[str, float | None] = {}
    for row in _of(rows, _OURS, _SMALL):
        if (row["stream"], row["change"]) in visible:
            missed[row["stream"]] = (missed.get(row["stream"]) or 0) + row["missed"]
    return missed


def _alarms(rows: Sequence[Row], _about: Row) -> Found:
    """In 10⁹ observations, had there been as many."""
    observations, alarms = _quiet(rows, _OURS)
    return {f"{alarms:,} in {observations:,}": alarms * _EVERY / observations} if observations else {}


def _canary_alarms(rows: Sequence[Row], _about: Row) -> Found:
    observations, alarms = _quiet(rows, _CANARIES)
    return {f"in {observations:,}": alarms} if observations else {}


def _quiet(rows: Sequence[Row], detector: str) -> tuple[int, int]:
    """Observations and alarms, each stream and size counted once: the rows of all its changes say the same."""
    counted = {(row["stream"], row["reference"]): row for row in _of(rows, detector)}.values()
    return sum(row["quiet_observations"] for row in counted), sum(row["quiet_alarms"] for row in counted)


def _cost(key: str) -> Measure:
    def measure(_rows: Sequence[Row], about: Row) -> Found:
        return {f"reference {one['reference']:,}": one[key] for one in _of(about["summary"], _OURS)}

    return measure


def _of(rows: Iterable[Row], detector: str, size: int | None = None) -> list[Row]:
    return [row for row in rows if row["detector"] == detector and size in {None, row["reference"]}]


_AT_ONCE = ("zero", "stuck", "temperature-2", "bias-1", "bias-0.3")
AIMS = (
    Aim(
        what="Geometric mean of the ratio to the oracle, changes with a finite divergence",
        limit=1.6,
        unit="×",
        measure=_mean_ratio,
    ),
    Aim(what="All-zero and stuck, p95", limit=3, unit="", measure=_delay("delay_p95", "all-zero", "stuck")),
    Aim(what="Near a half, median", limit=5, unit="", measure=_delay("delay_median", "near-half")),
    Aim(what="Temperature 2", limit=1.35, unit="×", measure=_ratio("temperature-2")),
    Aim(what="Bias 1", limit=1.5, unit="×", measure=_ratio("bias-1")),
    Aim(what="16 levels, median", limit=4, unit="", measure=_delay("delay_median", "16-levels")),
    Aim(what="Mild", limit=1.8, unit="×", measure=_ratio("mild")),
    Aim(what="Ramp", limit=1.2, unit="×", measure=_ratio("ramp")),
    Aim(what="A tenth collapsing", limit=1.7, unit="×", measure=_ratio("tenth-collapsed")),
    Aim(what="INT8 clipping", limit=2.5, unit="×", measure=_ratio("int8-clipping")),
    Aim(
        what="Reference 1,000: missed runs of changes whose divergence is above log(3·10⁷) / 1,000",
        limit=0,
        unit="",
        measure=_missed_in_spite,
    ),
    Aim(
        what="False alarms in 10⁹ observations",
        limit=33,
        unit="",
        measure=_alarms,
        enough=lambda rows: _quiet(rows, _OURS)[0] >= _EVERY,
    ),
    Aim(
        what="False alarms in 10⁶ canary probes",
        limit=0,
        unit="",
        measure=_canary_alarms,
        enough=lambda rows: _quiet(rows, _CANARIES)[0] >= 1e6,
    ),
    Aim(
        what="Canaries: zero, stuck, temperature, bias, median",
        limit=2,
        unit=" probes",
        measure=_delay("delay_median", *_AT_ONCE, detector=_CANARIES, size=None),
    ),
    Aim(
        what="Canaries: INT8 clipping, p95",
        limit=3,
        unit=" probes",
        measure=_delay("delay_p95", "int8-clipping", detector=_CANARIES, size=None),
    ),
    Aim(
        what="Canaries: a corrupted weight, median",
        limit=7,
        unit=" probes",
        measure=_delay("delay_median", "corrupted-weight", detector=_CANARIES, size=None),
    ),
    Aim(
        what="Shadow pairs: INT8 clipping, median",
        limit=40,
        unit=" pairs",
        measure=_delay("delay_median", "int8-clipping", detector="watchdog shadow pairs", size=None),
    ),
    Aim(what="Time for an observation", limit=10, unit=" µs", measure=_cost("us_per_observation")),
    Aim(what="Memory of a detector", limit=512, unit=" KiB", measure=_cost("kib")),
)
"""Where nothing else is said: the live detector with a reference of 10,000, on every stream it was measured on."""
