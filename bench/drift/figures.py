"""What a run's measurements come to: rows for a machine, and a summary."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.drift.contestants import ARL, STREAMS
from bench.drift.measure import Delays, Quiet
from bench.drift.oracle import Oracle
from bench.drift.subject import Cost
from bench.drift.tasks import Case

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A detector on a stream, with references of one size."""

    case: Case
    quiet: Quiet
    """Quiet streams, and all run-ins."""
    delays: Mapping[str, Delays]
    """Change → delays."""
    cost: Cost

    @property
    def reference(self) -> int | None:
        return self.case.size or None


Oracles = Mapping[tuple[str, str], Oracle]
"""(stream, change) → what the oracle needs."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is measured on a stream of its own, where there is no oracle: pairs, studies."""

    detector: str
    stream: str
    reference: int
    quiet: Quiet
    delays: Mapping[str, Delays]
    """Change → delays; empty where nothing changes."""
    cost: Cost


def rows(measured: Iterable[Measured], oracles: Oracles, seed: int) -> list[Row]:
    return [
        {"detector": one.case.detector, "stream": one.case.stream, "change": change, "reference": one.reference}
        | {"arl_promised": one.case.subject.arl_promised}
        | _quiet(one.quiet)
        | _delays(delays, oracles[one.case.stream, change])
        | _cost(one.cost)
        | {"seed": seed}
        for one in measured
        for change, delays in one.delays.items()
    ]


def rows_beside(beside: Iterable[Beside], seed: int) -> list[Row]:
    """The same keys; nothing is known of an oracle."""
    return [
        {"detector": one.detector, "stream": one.stream, "change": change, "reference": one.reference}
        | {"arl_promised": ARL}
        | _quiet(one.quiet)
        | _delays(delays, None)
        | _cost(one.cost)
        | {"seed": seed}
        for one in beside
        for change, delays in (one.delays or {"none": _NONE}).items()
    ]


def at_bound(beside: Iterable[Beside]) -> dict[str, dict[str, float | None]]:
    """Detector → change → the median delay, a missed change counting as found at the bound."""
    return {one.detector: {change: of.median_at_bound for change, of in one.delays.items()} for one in beside}


_NONE = Delays(found=np.array([]), missed=0, bound=0, run_in=Quiet())


def _quiet(quiet: Quiet) -> Row:
    return {"quiet_observations": quiet.observations, "quiet_alarms": quiet.alarms}


def _delays(delays: Delays, oracle: Oracle | None) -> Row:
    return {
        "delay_median": float(np.median(delays.found)) if len(delays.found) else None,
        "delay_p95": round(float(np.percentile(delays.found, 95)), 1) if len(delays.found) else None,
        "missed": delays.missed,
        "runs": len(delays.found) + delays.missed,
        "oracle_median": None if oracle is None else oracle.median,
        "oracle_p95": None if oracle is None else round(oracle.p95, 1),
    }


def _cost(cost: Cost) -> Row:
    return {"us_per_observation": round(cost.us_per_observation, 3), "kib": round(cost.kib, 1)}


def summary(measured: Sequence[Measured], oracles: Oracles) -> list[Row]:
    """For each detector and size of reference, over all streams: how many times the oracle's delay it needs.

    The ratio is the geometric mean over the changes with a finite divergence of the median delay,
    missed changes counted at their bound, to the oracle's.
    """
    kinds = dict.fromkeys((one.case.detector, one.reference) for one in measured)
    return [
        _summary([one for one in measured if (one.case.detector, one.reference) == kind], oracles) for kind in kinds
    ]


def _summary(alike: Sequence[Measured], oracles: Oracles) -> Row:
    ratios = {one.case.stream: _ratios(one, oracles) for one in alike}
    delays = [delays for one in alike for delays in one.delays.values()]
    quiet = sum((one.quiet for one in alike), Quiet())
    return {
        "detector": alike[0].case.detector,
        "reference": alike[0].reference,
        "arl_promised": alike[0].case.subject.arl_promised,
        "ratio_to_oracle": _geometric([ratio for by_change in ratios.values() for ratio in by_change.values()]),
        "ratio_by_stream": {stream: _geometric(by_change.values()) for stream, by_change in ratios.items()},
        "ratios": ratios,
        "missed": sum(one.missed for one in delays),
        "runs": sum(len(one.found) + one.missed for one in delays),
        "quiet_observations": quiet.observations,
        "quiet_alarms": quiet.alarms,
        "us_per_observation": round(float(np.median([one.cost.us_per_observation for one in alike])), 3),
        "kib": round(float(np.median([one.cost.kib for one in alike])), 1),
        "thresholds": {one.case.stream: one.case.threshold for one in alike if one.case.threshold is not None},
    }


def _ratios(one: Measured, oracles: Oracles) -> dict[str, float]:
    """Of the changes with a finite divergence; one that no run came to, for false alarms, has none."""
    finite = [name for name, change in STREAMS[one.case.stream].changes.items() if change.finite]
    medians = {name: one.delays[name].median_at_bound for name in finite}
    return {
        name: round(median / oracles[one.case.stream, name].median, 3)
        for name, median in medians.items()
        if median is not None
    }


def _geometric(ratios: Iterable[float]) -> float | None:
    logarithms = np.log(list(ratios))
    return round(float(np.exp(logarithms.mean())), 3) if len(logarithms) else None


def oracle_rows(oracles: Oracles) -> list[Row]:
    return [
        {
            "stream": stream,
            "change": change,
            "median": oracle.median,
            "p95": round(oracle.p95, 1),
            "threshold": None if oracle.threshold is None else round(oracle.threshold, 3),
            "aims_at": oracle.aims_at,
            "divergence": None if oracle.divergence is None else round(oracle.divergence, 4),
        }
        for (stream, change), oracle in oracles.items()
    ]


def frontier(laxer: Mapping[float, Oracles], oracles: Oracles) -> list[Row]:
    """How much sooner the oracle itself finds changes where more false alarms are allowed."""
    return [
        {
            "arl": arl,
            "ratio_to_oracle": _geometric(
                [oracle.median / oracles[key].median for key, oracle in some.items() if oracle.threshold is not None]
            ),
        }
        for arl, some in laxer.items()
    ]
