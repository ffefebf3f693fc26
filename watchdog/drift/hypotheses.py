"""What may have happened to a stream, as bets: for each, how much likelier a value would be than before.

Bets are densities over *ranks*: where a value stands among healthy ones, from 0 to 1. Cells are
narrow at the ends, where faults of quantised engines show first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from watchdog.drift.links import Link
from watchdog.drift.smooth import Smooth
from watchdog.model.tensor import Array

_ENDS = np.array([0.0, 1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 7e-3, 0.011, 0.016])
CELLS = np.concatenate([_ENDS, np.linspace(0.022, 0.978, 97), 1 - _ENDS[::-1]])
"""Edges of the rank cells, [J + 1]."""
CLOSE_CELLS = np.concatenate([[0.0], np.geomspace(1.2e-4, 0.1, 26), [0.15, 0.25, 0.4, 0.6, 0.8, 1.0]])
"""Edges of the cells for "how near to 0.5", by rank."""
WAVES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Bet:
    """One hypothesis."""

    name: str
    sentence: str
    weight: float
    density: Array
    """Over cells; its mean over ranks is 1, so that it is expected to win nothing while nothing changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Family:
    """Hypotheses of one kind, which share a weight."""

    weight: float
    keeps: float
    """The share of a stream that such a change surely leaves as it was: a bet never loses more."""
    members: Sequence[tuple[str, str, Array]]
    """Name, sentence, distribution function on the grid."""


def named(smooth: Smooth, link: Link) -> tuple[Bet, ...]:
    """All changes that have a name, of a whole stream or of a part of it."""
    families = (_scales, _shifts, _noises, _parts, _cuts)
    return (*_over_cells(smooth, (family(smooth, link) for family in families)), *_tilts(), *_ends(link))


def closeness(smooth: Smooth) -> tuple[Bet, ...]:
    """Collapses to 0.5, of everything or of a part, as densities over the rank of |logit|."""
    distance = np.linspace(0.0, smooth.grid[-1], 6001)
    healthy = smooth.at(distance) - smooth.at(-distance)
    edges = np.interp(CLOSE_CELLS, healthy, distance)
    edges[-1] = np.inf
    widths = np.diff(CLOSE_CELLS)
    bets = []
    for sigma in (0.04, 0.12, 0.4):
        near = smooth.gathered(0.0, sigma)
        inside = np.interp(edges, smooth.grid, near, right=1.0) - np.interp(-edges, smooth.grid, near, left=0.0)
        for share in (1.0, 0.3, 0.1):
            density = _normed(np.diff(inside) / widths, widths)
            mixed = _kept(share * density + 1 - share, 0.03 if share == 1.0 else 0.0)
            name, said = f"half-{sigma:g}-{share:g}", f"{_of(share)} collapsed to near 0.5"
            bets.append(Bet(name=name, sentence=said, weight=0.11 / 9, density=mixed))
    return tuple(bets)


def waves() -> Array:
    """[J, 6] Legendre polynomials over ranks, of mean 0 and mean square 1: what smooth changes are made of.

    Neyman, "Smooth test for goodness of fit" (1937).
    """
    columns = []
    for degree in range(1, WAVES + 1):
        series = np.zeros(degree + 1)
        series[degree] = np.sqrt(2 * degree + 1)
        columns.append(np.diff(legendre.legval(2 * CELLS - 1, legendre.legint(series))) / 2 / np.diff(CELLS))
    return np.stack(columns, axis=1)


def _scales(smooth: Smooth, link: Link) -> _Family:
    factors = (0.3, 0.5, 0.65, 0.8, 0.9, 1.1, 1.25, 1.6)
    members = [(f"scale-{f:g}", f"{_values(link)} scaled by about {f:g}", smooth.scaled(f)) for f in factors]
    return _Family(weight=0.18, keeps=0.02, members=members)


def _shifts(smooth: Smooth, link: Link) -> _Family:
    members = [
        (f"shift{by:+g}", f"{_values(link)} shifted by about {_amount(by, smooth, link)}", smooth.shifted(by))
        for by in (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
    ]
    return _Family(weight=0.16, keeps=0.02, members=members)


def _noises(smooth: Smooth, link: Link) -> _Family:
    kinds = ((1.0, 0.35), (1.0, 0.7), (1.0, 1.2), (0.9, 0.35), (0.9, 0.7), (0.8, 0.7))
    members = []
    for factor, sigma in kinds:
        shrunk = f"shrunk to {factor:g} and " if factor != 1.0 else ""
        said = f"{_values(link)} {shrunk}blurred by noise of about {_amount(sigma, smooth, link).lstrip('+')}"
        members.append((f"noise-{factor:g}-{sigma:g}", said, smooth.noisy(factor, sigma)))
    return _Family(weight=0.09, keeps=0.02, members=members)


def _parts(smooth: Smooth, link: Link) -> _Family:
    members = [
        (
            f"part-{share:g}{by:+g}",
            f"{_of(share)} shifted by about {_amount(by, smooth, link)}",
            (1 - share) * smooth.cdf + share * smooth.shifted(by),
        )
        for share in (0.1, 0.3)
        for by in (-2.0, -1.0, 1.0, 2.0)
    ]
    halved = 0.7 * smooth.cdf + 0.3 * smooth.scaled(0.5)
    members.append(("part-0.3-scale-0.5", f"{_of(0.3)} scaled by about 0.5", halved))
    return _Family(weight=0.22, keeps=0.0, members=members)


def _cuts(smooth: Smooth, _link: Link) -> _Family:
    members = []
    for share in (0.5, 0.25, 0.1, 0.03):
        gone = f"clipped: what was the {{}} {share:.0%} is there no more"
        members.append((f"cut-above-{share:g}", gone.format("highest"), smooth.cut_above(1 - share)))
        members.append((f"cut-below-{share:g}", gone.format("lowest"), smooth.cut_below(share)))
    return _Family(weight=0.04, keeps=0.05, members=members)


def _over_cells(smooth: Smooth, families: Iterable[_Family]) -> Iterable[Bet]:
    edges = smooth.quantile(CELLS)
    edges[0], edges[-1] = -np.inf, np.inf
    widths = np.diff(CELLS)
    for family in families:
        for name, sentence, cdf in family.members:
            reached = np.interp(edges, smooth.grid, np.maximum.accumulate(cdf) / cdf[-1], left=0.0, right=1.0)
            density = _kept(_normed(np.diff(reached) / widths, widths), family.keeps)
            weight = family.weight / len(family.members)
            yield Bet(name=name, sentence=sentence, weight=weight, density=density)


def _tilts() -> Iterable[Bet]:
    widths, shapes = np.diff(CELLS), waves()
    for degree in range(4):
        for slope in (-0.3, 0.3):
            density = _normed(np.exp(slope * shapes[:, degree]), widths)
            said = "the distribution tilted" if degree == 0 else "the distribution bent"
            yield Bet(name=f"tilt-{degree + 1}{slope:+g}", sentence=said, weight=0.02 / 8, density=density)


def _ends(link: Link) -> Iterable[Bet]:
    """Crowding beyond the usual extremes."""
    widths = np.diff(CELLS)
    for low in (True, False):
        for reach in (1e-3, 1e-2):
            inside = CELLS[1:] <= reach * 1.001 if low else CELLS[:-1] >= 1 - reach * 1.001
            density = _normed(inside.astype(np.float64), widths)
            for share in (1.0, 0.1):
                where = f"{'lowest' if low else 'highest'} {reach:.1%} of what is usual"
                said = f"{_of(share) if share < 1 else _values(link)} among the {where}"
                name = f"{'low' if low else 'high'}-{reach:g}-{share:g}"
                mixed = _kept(share * density + 1 - share, 0.05 if share == 1.0 else 0.0)
                yield Bet(name=name, sentence=said, weight=0.02 / 8, density=mixed)


def _normed(density: Array, widths: Array) -> Array:
    return np.asarray(density / (density @ widths))


def _kept(density: Array, share: float) -> Array:
    return (1 - share) * density + share


def _values(link: Link) -> str:
    return "logits" if link is Link.LOGIT else "values"


def _of(share: float) -> str:
    return "everything" if share == 1.0 else f"about {share:.0%} of the stream"


def _amount(units: float, smooth: Smooth, link: Link) -> str:
    if link is Link.LOG:
        return f"a factor of {np.exp(units * smooth.unit):.2g}"
    return f"{units * smooth.unit:+.2g}"
