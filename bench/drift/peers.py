"""Other people's detectors: packages as they are, and the formulas that practice uses.

One-sided ones watch x and 1 − x. Of frouros are not here: DDM, EDDM, ECDD, RDDM and STEPD, which take
errors, not scalars; HDDM, which one-sided never alarms here and two-sided does every 30 observations;
BOCD, as its state and its milliseconds grow with each observation; KSWIN, as river's is here; and
IncrementalKSTest, which says the same as the sliding KS (a test shows it) at 65–360 µs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from river import drift

from bench.drift.calibrate import Calibrated
from bench.drift.formulas import MeanCusum, SlidingKs, SlidingPsi
from bench.drift.streams import Array, Rng
from bench.drift.subject import OneByOne, Subject, ToCalibrate, Update

river: Any = drift  # it has types, but not for what is called here
frouros: Any = import_module("frouros.detectors.concept_drift") if find_spec("frouros") else None
"""None where it can't be installed, as on Python 3.13."""
LAX = 1e5
"""Observations to a false alarm that the calibrated ones have: 300 times as many alarms as are wanted."""


@dataclass(frozen=True)
class _River:
    detector: Any

    def __call__(self, x: float) -> bool:
        self.detector.update(x)
        return bool(self.detector.drift_detected)


@dataclass(frozen=True)
class _Frouros:
    """One detector for x or, if it sees rises only, another for 1 − x."""

    detectors: Sequence[Any]

    def __call__(self, x: float) -> bool:
        for detector, value in zip(self.detectors, (x, 1.0 - x), strict=False):
            detector.update(value=value)
        return any(detector.drift for detector in self.detectors)


def _from_river(name: str, make: Callable[[int], Any], share: float = 1.0) -> OneByOne:
    """A detector of river, made from a seed."""

    def fresh(_reference: Array, rng: Rng) -> Update:
        return _River(make(int(rng.integers(2**31))))

    return OneByOne(name=f"river {name}", fresh=fresh, share=share, native=True)


def _from_frouros(name: str, make: Callable[[], Any], *, sides: int = 1, share: float) -> OneByOne:
    def fresh(_reference: Array, _rng: Rng) -> Update:
        return _Frouros([make() for _ in range(sides)])

    return OneByOne(name=f"frouros {name}", fresh=fresh, share=share, native=True)


def _adwin(threshold: float) -> OneByOne:
    """ADWIN at δ = e^−threshold."""

    def fresh(_reference: Array, _rng: Rng) -> Update:
        return _River(river.ADWIN(delta=math.exp(-threshold)))

    return OneByOne(name="river ADWIN at 10⁵", fresh=fresh, arl_promised=LAX, native=True)


def _ks(threshold: float) -> SlidingKs:
    return SlidingKs(name="KS(500) at 10⁵", window=500, distance=threshold, arl_promised=LAX)


def _psi(threshold: float) -> SlidingPsi:
    return SlidingPsi(name="PSI(500) at 10⁵", window=500, limit=threshold, arl_promised=LAX)


def _cusum(threshold: float) -> MeanCusum:
    return MeanCusum(name="mean CUSUM at 10⁵", threshold=threshold, allowance=0.25, arl_promised=LAX)


def _of_frouros() -> tuple[OneByOne, ...]:
    if frouros is None:
        return ()
    return (
        _from_frouros("ADWIN", frouros.ADWIN, share=0.1),
        _from_frouros("PageHinkley", frouros.PageHinkley, sides=2, share=0.2),
        _from_frouros("CUSUM", frouros.CUSUM, sides=2, share=0.2),
        _from_frouros("GeometricMovingAverage", frouros.GeometricMovingAverage, sides=2, share=0.2),
    )


OTHERS: tuple[Subject | ToCalibrate, ...] = (
    SlidingKs(name="KS(100) p < 0.01", window=100, p_value=0.01),
    SlidingKs(name="KS(500) p < 0.01", window=500, p_value=0.01),
    SlidingPsi(name="PSI(500) > 0.2", window=500, limit=0.2),
    MeanCusum(name="mean CUSUM 5 σ", threshold=5.0, allowance=0.5),
    _from_river("ADWIN", lambda _seed: river.ADWIN()),
    _from_river("KSWIN", lambda seed: river.KSWIN(seed=seed), share=0.02),
    _from_river("PageHinkley", lambda _seed: river.PageHinkley()),
    *_of_frouros(),
    Calibrated(name="KS(500) at 10⁵", arl=LAX, at=_ks, between=(0.08, 0.15)),
    Calibrated(name="PSI(500) at 10⁵", arl=LAX, at=_psi, between=(0.05, 0.25)),
    Calibrated(name="mean CUSUM at 10⁵", arl=LAX, at=_cusum, between=(5.0, 60.0)),
    Calibrated(name="river ADWIN at 10⁵", arl=LAX, at=_adwin, between=(-2.0, 7.0), learns=False),
)
