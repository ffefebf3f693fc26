"""A replay as a figure: readings over time, and each setting's statistic against its threshold.

Readable without colours, and the same replay gives the same bytes (SVG; PDF and PNG with one version of Matplotlib).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from watchdog.model.tensor import Array
from watchdog.replay.outcome import Replay, Replayed, Watched
from watchdog.replay.recording import Mark, ReplayError, optional

FORMATS: Mapping[str, Mapping[str, Any]] = {
    ".svg": {"Date": None, "Creator": "inference-watchdog"},
    ".pdf": {"CreationDate": None, "Creator": "inference-watchdog"},
    ".png": {"Software": "inference-watchdog"},
}
"""Suffix → what is written into the file about itself: nothing of the day or the machine."""
_READINGS = 6
"""More would make panels that nobody can read."""
_DOTS, _PARTS, _SYMBOLS_SHOWN = 1200, 400, 100
"""So many readings, points of a line, and alarms of a setting are drawn at most: more can't be told apart."""
_INK = ("#000000", "#5a5a5a", "#8c8c8c", "#2f5d8a", "#a8521b")
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
_SYMBOLS = ("v", "s", "D", "o", "^")
_LOWEST = 1e-9
_STYLE = {
    "svg.hashsalt": "inference-watchdog",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.4,
}


def draw(replay: Replay, path: Path) -> None:
    """Write the figure; the suffix, one of `FORMATS`, says how.

    Raises:
        ReplayError: Matplotlib isn't installed, or the file can't be written.
    """
    matplotlib = optional("matplotlib")
    figures = optional("matplotlib.figure")
    shown = replay.readings[:_READINGS]
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    with matplotlib.rc_context(defaults | _STYLE):  # whatever a person's own settings are
        figure = figures.Figure(figsize=(10.0, 5.4 * len(shown)), layout="constrained")
        panels = figure.subplots(2 * len(shown), 1, squeeze=False)[:, 0]
        for i, reading in enumerate(shown):
            _values(panels[2 * i], reading, replay.marks)
            _evidence(panels[2 * i + 1], reading, replay.marks)
            panels[2 * i + 1].set_xlim(panels[2 * i].get_xlim())
        try:
            figure.savefig(path, format=path.suffix[1:], metadata=FORMATS[path.suffix], dpi=150)
        except OSError as error:
            raise ReplayError(f"{path}: can't be written: {error.strerror or error}") from error


def _values(panel: Any, reading: Replayed, marks: Sequence[Mark]) -> None:
    """The readings, with the reference shaded where it is part of the file."""
    where, values = _thinned(reading)
    panel.plot(_axis(reading, where), values, ".", color="black", markersize=1.5, alpha=0.6)
    if reading.first:
        begin, end = _axis(reading, np.array([0, reading.first - 1]))
        panel.axvspan(begin, end, facecolor="0.9", edgecolor="0.6", hatch="/", linewidth=0.0, label="reference")
    _story(panel, reading, marks)
    panel.set_ylabel(reading.reading)
    panel.set_title(f"{reading.reading}: {len(reading.series):,} observations", loc="left", fontsize=10)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(loc="upper left", fontsize=7, frameon=True)
    _time(panel, reading)


def _evidence(panel: Any, reading: Replayed, marks: Sequence[Mark]) -> None:
    """log10 of statistic ÷ threshold: an alarm is where a line reaches 0."""
    for i, one in enumerate(reading.settings):
        if one.statistics.size:
            _line(panel, reading, one, i)
    panel.axhline(0.0, color="black", linewidth=0.8)
    panel.set_ylabel("log10 (statistic ÷ threshold)")
    panel.set_ylim(top=1.2)
    _story(panel, reading, marks, labelled=False)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(loc="lower left", fontsize=7, frameon=True)
    _time(panel, reading)


def _line(panel: Any, reading: Replayed, one: Watched, i: int) -> None:
    level = np.log10(np.clip(one.statistics / (one.threshold or np.inf), _LOWEST, 10.0))
    ink, dashes, symbol = (each[i % len(each)] for each in (_INK, _DASHES, _SYMBOLS))
    where = _highest(level)
    label = f"{one.name}: {len(one.places):,} alarm{'s' * (len(one.places) != 1)}"
    axis = _axis(reading, where + reading.first)
    panel.plot(axis, level[where], color=ink, linestyle=dashes, linewidth=0.9, label=label)
    if len(one.places):
        places = _apart(one.places, len(reading.series))
        height = np.full(len(places), 0.25 + 0.3 * (i % 3))
        panel.plot(_axis(reading, places), height, symbol, color=ink, markersize=5, markerfacecolor="white")


def _story(panel: Any, reading: Replayed, marks: Sequence[Mark], *, labelled: bool = True) -> None:
    """The change that is known, and what the watchdog decided meanwhile."""
    if reading.changed_at is not None:
        place = _axis(reading, np.array([reading.changed_at]))[0]
        panel.axvline(place, color="black", linewidth=1.6, label="the change" if labelled else None)
    times = reading.series.at
    if times is None:
        return
    within = [mark for mark in marks if times[0] <= mark.at <= times[-1]]
    for i, mark in enumerate(within):
        dashes = "--" if mark.kind == "outcome" else ":"
        first = labelled and not any(before.kind == mark.kind for before in within[:i])
        named = {"decision": "the watchdog's decisions", "outcome": "its switches"}.get(mark.kind, mark.kind)
        panel.axvline(_date(mark.at), color="0.4", linewidth=0.8, linestyle=dashes, label=named if first else None)


def _axis(reading: Replayed, where: Array) -> Array:
    """Times where there are any, else the observations' numbers."""
    times = reading.series.at
    return np.asarray(where if times is None else _date(times[where]))


def _date(seconds: Any) -> Any:
    """Matplotlib's days from unix seconds."""
    return seconds / 86400.0


def _time(panel: Any, reading: Replayed) -> None:
    if reading.series.at is None:
        panel.set_xlabel("observation")
        return
    dates = optional("matplotlib.dates")
    locator = dates.AutoDateLocator()
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    panel.set_xlabel("time (UTC)")


def _thinned(reading: Replayed) -> tuple[Array, Array]:
    """Observations' numbers and values that are finite, evenly spread over the file."""
    lengths = np.diff(reading.series.starts)
    where = np.repeat(np.arange(len(lengths)), lengths)
    finite = np.flatnonzero(np.isfinite(reading.series.values))
    if len(finite) > _DOTS:
        finite = finite[np.linspace(0, len(finite) - 1, _DOTS).astype(int)]
    return where[finite], reading.series.values[finite]


def _apart(places: Array, observations: int) -> Array:
    """The first alarm of each part of the file."""
    _, first = np.unique(places * _SYMBOLS_SHOWN // max(observations, 1), return_index=True)
    return np.asarray(places[first])


def _highest(level: Array) -> Array:
    """Where to sample a line: the highest point of each part, since what counts is how near it came to an alarm."""
    parts = np.array_split(np.arange(level.size), min(_PARTS, level.size))
    return np.array([part[np.argmax(level[part])] for part in parts])
