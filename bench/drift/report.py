"""Writes docs/drift-benchmark.md and its two plots from what `bench.drift.run` measured.

    python -m bench.drift.report [--data FILE] [--docs FOLDER]

The same figures give the same bytes.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.drift import aims

_ROOT = Path(__file__).parents[2]
_DATA = _ROOT / "bench" / "results" / "drift.json"
_DOCS = _ROOT / "docs"
_STYLE: Any = {
    "svg.hashsalt": "drift",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_OURS, _OTHERS, _LINE = "#0b6e4f", "#8a5a83", "#888888"
_AT_MOST = 3.0
"""Alarms that a stream without any still leaves possible at 95 %: the rule of three."""

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.drift.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=_DATA, help="what bench.drift.run wrote; its summary lies beside")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="where the page and its plots go")
    arguments = parser.parse_args()
    data = arguments.data
    write(data, data.with_name(f"{data.stem}-summary.json"), arguments.docs)


def write(data: Path, summary: Path, docs: Path = _DOCS) -> None:
    rows = json.loads(data.read_text(encoding="utf-8"))
    about = json.loads(summary.read_text(encoding="utf-8"))
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "drift-benchmark.md").write_text(page(rows, about), encoding="utf-8")
    with mpl.rc_context(_STYLE):
        _save(delays_plot(about), docs / "drift-delays.svg")
        _save(trade_plot(about), docs / "drift-run.svg")


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None, "Creator": None}, bbox_inches="tight")


def page(rows: Sequence[Row], about: Row) -> str:
    """The whole page, in Markdown."""
    beside_oracle = [row for row in rows if row["oracle_median"] is not None]
    streams = dict.fromkeys(row["stream"] for row in beside_oracle)
    parts = [_opening(about), _overview(about), _PLOTS, _aims(rows, about), _method(about), _WHAT_CELLS_SAY]
    parts += [_stream(stream, [row for row in beside_oracle if row["stream"] == stream]) for stream in streams]
    parts += [_settled(about), _pairs(rows), _studies(rows), _false_alarms(beside_oracle)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(about: Row) -> str:
    machine = about["machine"]
    warning = "**From a quick run: these figures mean little.**\n\n" if about["quick"] else ""
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    return f"""# Drift detectors, measured side by side

{warning}Measured and written by `python -m bench.drift.run --report` on {about["date"][:10]}, seed {about["seed"]}, in
{about["minutes"]:.0f} minutes on {machine["cores"]} cores: Python {machine["python"]}, {versions}.

A delay means nothing without the rate of false alarms that buys it. So each delay is compared with the **oracle**'s:
the CUSUM that knows both densities, set to one false alarm in 3·10⁷ observations, a year at one a second. Nothing that
alarms as rarely has a shorter mean delay in the worst case."""


_PLOTS = """![How many times the oracle's delay each detector needs](drift-delays.svg)

![Mean observations to a false alarm, against delay](drift-run.svg)"""

_CHANGES = (
    ("all-zero", "every confidence is 0"),
    ("stuck", "one confidence comes again and again"),
    ("near-half", "logits are normal around 0 with deviation 0.1"),
    ("temperature-2", "logits are halved"),
    ("bias-1", "1 is added to logits"),
    ("16-levels", "confidences are rounded to multiples of 1/15"),
    ("mild", "the distribution's parameters move by a tenth; the classifier's temperature rises to 1.1"),
    ("ramp", "the temperature rises from 1 to 2 over 2,000 observations"),
    ("tenth-collapsed", "a tenth of the stream becomes near-half"),
    ("tenth-biased", "2 is added to the logits of a tenth of the stream"),
    ("int8-clipping", "the classifier's hidden layer is INT8, with less than half of the range it needs"),
)


def _method(about: Row) -> str:
    plan = about["plan"]
    quiet, (references, length) = plan["quiet_streams"] * plan["quiet_length"], plan["long_quiet"]
    return f"""## Method
**Streams.** *bimodal*: logits of two normal distributions, in float32, like a nodule detector's. *skewed-fp16*:
Beta(0.8, 4) in half precision, so that values tie. *digits-mlp*: the top probability of a small network that reads
handwritten digits.

**Changes.**

{_table(("change", "what happens"), _CHANGES, numbers=False)}

**Oracle.** Its threshold is found by importance sampling. A change that puts values where the healthy stream has none
gives itself away at once: there the oracle's delay is 1. On the ramp it knows the one temperature that finds it
soonest.

**Promise.** Of the watchdog's detectors: a run length A means that in the long run there is at most one false alarm in
A observations, on average, and that P(a false alarm within m observations) ≤ m / A. Nothing about the stream needs to
be known for it. The part that never forgets keeps its share for 95 % of references.

**Peers** come as they are shipped, and *at 10⁵*: with thresholds found by simulation of the very stream, for one false
alarm in 10⁵ observations. No user can find that setting, and it means 300 times as many false alarms as are wanted. A
laxer rate makes anything faster, so the oracle at the same rate stands beside them.

**Runs.** Each change comes {plan["runs"]} times, each time after another reference and {_RUN_IN} quiet observations.
An alarm before the change is a false one; the run begins anew. A run counts as *missed* if no alarm comes within 25
times the oracle's median, but never before 1,000 observations nor after 30,000. Slow packages get a share of the runs.

**False alarms** are counted in the run-ins and in {quiet:,} quiet observations of each stream and size, and for
`watchdog` in {references * length:,}: {references} references with {length:,} observations each."""


_RUN_IN = 500

_WHAT_CELLS_SAY = """## Delays
Observations to the alarm, median / 95th percentile of the runs that found the change, and the median's ratio to the
oracle's. Where the ratio is below 1, false alarms are what was fast."""


def _aims(rows: Sequence[Row], about: Row) -> str:
    lines = [
        (one.aim.what, f"≤ {one.aim.limit:,g}{one.aim.unit}", _found(one), f"**{one.verdict}**")
        for one in aims.judge(rows, about)
    ]
    return f"""## Aims
Limits were set before this was measured, and hold for every stream. Unless another is named, the detector is `watchdog`
with a reference of 10,000. Medians count a missed change as found at the bound; a 95th percentile is missed if any run
is.

{_table(("aim", "limit", "measured", "outcome"), lines, numbers=False)}"""


def _found(outcome: aims.Outcome) -> str:
    return "; ".join(": ".join(filter(None, (where, _plain(value)))) for where, value in outcome.found.items()) or "–"


def _plain(value: float | None) -> str:
    if value is None:
        return "runs missed it"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


def _overview(about: Row) -> str:
    head = ("detector", "reference", "promised", "to a false alarm", "× oracle", "missed", "µs", "KiB")
    ranked = sorted(about["summary"], key=lambda one: (one["arl_promised"] is None, one["ratio_to_oracle"] or 1e9))
    lines = [
        (
            f"**{one['detector']}**" if one["detector"] in about["ours"] else one["detector"],
            _size(one),
            "–" if one["arl_promised"] is None else _power(one["arl_promised"]),
            _run_length(one),
            "–" if one["ratio_to_oracle"] is None else f"{one['ratio_to_oracle']:.2f}",
            f"{one['missed']:,} of {one['runs']:,}",
            _short(one["us_per_observation"]),
            _short(one["kib"]),
        )
        for one in ranked
    ]
    lines += [
        ("*the oracle*", "knows all", _power(one["arl"]), _power(one["arl"]), f"{one['ratio_to_oracle']:.2f}", *"–––")
        for one in about["frontier"]
        if one["ratio_to_oracle"] is not None
    ]
    return f"""## In short
Over all streams. *× oracle* is the geometric mean, over the changes with a finite divergence, of the ratio of median
delays, a missed change counting as found at the bound. *To a false alarm*: mean observations, measured. *µs*: one
observation through the detector's own interface, which for KS is `scipy.stats.ks_2samp`. *KiB*: its state, with what
it keeps of the reference. Compare ratios only where false alarms are as rare: the oracle itself gets below 1 where more
of them are allowed.

{_table(head, lines)}"""


def _stream(stream: str, rows: Sequence[Row]) -> str:
    parts = [f"### {stream}"]
    sizes = sorted({row["reference"] for row in rows if row["reference"]}, reverse=True)
    for size in sizes or [None]:
        # What doesn't learn stands beside the largest reference only.
        beside = [row for row in rows if row["reference"] == size or (row["reference"] is None and size == max(sizes))]
        promised = [row for row in beside if row["arl_promised"] is not None]
        shipped = [row for row in beside if row["arl_promised"] is None]
        about = "" if size is None else f", reference {size:,}"
        parts += [
            f"{kind}{about}:\n\n{_delays(some)}"
            for kind, some in (("With a promised run length", promised), ("As shipped", shipped))
            if some
        ]
    return "\n\n".join(parts)


def _delays(rows: Sequence[Row]) -> str:
    detectors = dict.fromkeys(row["detector"] for row in rows)
    cells = {(row["change"], row["detector"]): row for row in rows}
    changes = {row["change"]: row for row in rows}
    lines = [
        (
            change,
            f"{any_row['oracle_median']:g} / {any_row['oracle_p95']:.0f}",
            *(_cell(cells[change, one]) for one in detectors),
        )
        for change, any_row in changes.items()
    ]
    return _table(("change", "oracle", *detectors), lines)


def _cell(row: Row) -> str:
    if not row["runs"]:
        return "false alarms only"
    if row["delay_median"] is None:
        return "missed"
    ratio = row["delay_median"] / row["oracle_median"]
    missed = f", missed {row['missed']} of {row['runs']}" if row["missed"] else ""
    return f"{row['delay_median']:.0f} / {row['delay_p95']:.0f} ({_short(ratio)}×){missed}"


def _settled(about: Row) -> str:
    """What a reference of 1,000 comes to once its pool has grown."""
    kinds = (("watchdog", 1_000), ("watchdog, settled", 1_000), ("watchdog", 10_000))
    some = [one for kind in kinds for one in about["summary"] if (one["detector"], one["reference"]) == kind]
    if not any(one["detector"] == "watchdog, settled" for one in some):
        return ""
    streams = list(some[0]["ratio_by_stream"])
    lines = [
        (
            _label(one),
            *("–" if (ratio := one["ratio_by_stream"].get(s)) is None else f"{ratio:.2f}×" for s in streams),
            f"{one['missed']:,} of {one['runs']:,}",
        )
        for one in some
    ]
    return f"""## Once it has settled
The live detector learns from the quiet stream, too. *Settled* is a reference of 1,000 with changes that come after
10,000 quiet observations instead of {_RUN_IN}.

{_table(("detector, reference", *streams, "missed"), lines)}"""


_FAULTS = """- *zero*, *stuck*, *temperature-2*, *bias-1*, *bias-0.3*, *int8-clipping*: as above.
- *corrupted-weight*: one exponent bit of one weight flips, whichever. Many of them change next to nothing, which is not
  meant to be found.
- *one-digit-darker*: the images of one digit have four fifths of their brightness."""


def _pairs(rows: Sequence[Row]) -> str:
    some = [row for row in rows if row["stream"] == "digits-mlp pairs"]
    if not some:
        return ""
    detectors = {row["detector"]: row for row in some}
    cells = {(row["change"], row["detector"]): _delay(row) for row in some}
    lines = [
        (change, *(cells[change, detector] for detector in detectors))
        for change in dict.fromkeys(row["change"] for row in some)
    ]
    lines.append(("*false alarms*", *(_alarms(row) for row in detectors.values())))
    lines.append(("*learns from*", *(f"{row['reference']:,} answers" for row in detectors.values())))
    return f"""## Pairs
The same classifier, as two engines: the safe one in float32, the fast one in half precision. Faults happen in the fast
one. *Canaries* are 32 held-out digits, of which a few pixels move by half a grey level, as the watchdog does it; they
come in an order drawn anew for each round, and 5 repeats of each were captured. *Probability* is the same detector on
probabilities instead of logits. *Shadow pairs* are live images through both engines, *unpaired* is the live detector on
what the fast engine says. Probes, pairs or answers to the alarm, median / 95th percentile of the runs that found it; a
run without one within 1,000 probes, or 5,000 live images, is missed. Every one promises 3·10⁷.

{_FAULTS}

{_table(("fault", *detectors), lines)}"""


def _delay(row: Row) -> str:
    missed = f", missed {row['missed']} of {row['runs']}" if row["missed"] else ""
    if row["delay_median"] is None:
        return f"missed {row['missed']} of {row['runs']}" if row["runs"] else "–"
    return f"{row['delay_median']:.0f} / {row['delay_p95']:.0f}{missed}"


def _studies(rows: Sequence[Row]) -> str:
    some = [row for row in rows if row["stream"] == "bimodal studies"]
    if not some:
        return ""
    lines = [(row["detector"], f"{row['quiet_alarms']:,}", f"{row['quiet_observations']:,}") for row in some]
    return f"""## Studies
Slices of one study resemble one another: here 10 a study, with a correlation of 0.5, and nothing changes. Taken as one
observation, a study keeps the promise. Taken one by one, slices break it.

{_table(("detector", "false alarms", "observations"), lines)}"""


def _false_alarms(rows: Sequence[Row]) -> str:
    streams = dict.fromkeys(row["stream"] for row in rows)
    counted = {(row["detector"], row["reference"], row["stream"]): row for row in rows}
    kinds = dict.fromkeys((row["detector"], row["reference"]) for row in rows)
    lines = [
        (detector, _size({"reference": size}), *(_alarms(counted.get((detector, size, stream))) for stream in streams))
        for detector, size in kinds
    ]
    return f"""## False alarms
Alarms in observations in which nothing changed; the detector starts afresh after each.

{_table(("detector", "reference", *streams), lines)}"""


def _alarms(row: Row | None) -> str:
    return "–" if row is None else f"{row['quiet_alarms']:,} in {_power(row['quiet_observations'])}"


def _size(row: Row) -> str:
    return f"{row['reference']:,}" if row["reference"] else "none"


def _run_length(one: Row) -> str:
    if not one["quiet_alarms"]:
        return f"none in {_power(one['quiet_observations'])}"
    return _power(one["quiet_observations"] / one["quiet_alarms"])


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _power(value: float) -> str:
    """Two digits and a power of ten; small numbers in full."""
    if value < 10_000:
        return f"{value:,.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}·10{str(int(exponent)).translate(_RAISED)}".removeprefix("1·")


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    ruler = ["---", *("---:" if numbers else "---" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ruler, *lines))


def delays_plot(about: Row) -> Figure:
    """A line a detector: its ratio to the oracle for each change, and their geometric mean."""
    rated = [one for one in about["summary"] if one["ratio_to_oracle"] is not None]
    ranked = sorted(rated, key=lambda one: -one["ratio_to_oracle"])
    figure = Figure(figsize=(8.0, 0.9 + 0.27 * len(ranked)))
    axes = figure.subplots()
    for height, one in enumerate(ranked):
        colour = _colour(one, about)
        every = [ratio for by_change in one["ratios"].values() for ratio in by_change.values()]
        axes.plot(every, [height] * len(every), "o", color=colour, alpha=0.35, markersize=4, markeredgewidth=0)
        axes.plot([one["ratio_to_oracle"]], [height], "D", color=colour, markersize=6)
    axes.set_yticks(range(len(ranked)), [_label(one) for one in ranked])
    axes.axvline(1.0, color=_LINE, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("median delay ÷ the oracle's at 3·10⁷: each change (dot), geometric mean (diamond)")
    axes.grid(axis="x", color=_LINE, alpha=0.25, linewidth=0.6)
    return figure


def trade_plot(about: Row) -> Figure:
    """Each detector's measured mean run length against its ratio to the oracle; small references are hollow."""
    figure = Figure(figsize=(8.0, 5.5))
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    by_detector: dict[str, list[Row]] = {}
    for one in about["summary"]:
        if one["ratio_to_oracle"] is not None:
            by_detector.setdefault(one["detector"], []).append(one)
    for alike in by_detector.values():
        _points(axes, sorted(alike, key=lambda one: -(one["reference"] or 0)), _colour(alike[0], about))
    best = [*((one["arl"], one["ratio_to_oracle"]) for one in about["frontier"]), (3e7, 1.0)]
    axes.plot(*zip(*best, strict=True), "-*", color="black", markersize=9, linewidth=1)
    axes.set_xlabel("mean observations to a false alarm (▸: none seen, so at least this at 95 %; | what is promised)")
    axes.set_ylabel("delay ÷ the oracle's at 3·10⁷, geometric mean")
    axes.grid(color=_LINE, alpha=0.25, linewidth=0.6)
    labels = [(*_place(alike[0]), name, _colour(alike[0], about)) for name, alike in by_detector.items()]
    _write_beside(axes, [*labels, (*best[-1], "oracle", "black")])
    return figure


def _points(axes: Axes, alike: Sequence[Row], colour: str) -> None:
    """A detector with references of falling sizes."""
    places = [_place(one) for one in alike]
    axes.plot(*zip(*places, strict=True), color=colour, linewidth=0.8, alpha=0.6)
    for place, one, fill in zip(places, alike, (colour, *("white" for _ in alike[1:])), strict=True):
        marker = "o" if one["quiet_alarms"] else ">"
        axes.plot(*([at] for at in place), marker, color=colour, markerfacecolor=fill, markersize=6)
        if one["arl_promised"] is not None and one["arl_promised"] > place[0]:
            promise = ([place[0], one["arl_promised"]], [place[1]] * 2)
            axes.plot(*promise, ":|", color=colour, linewidth=0.8, alpha=0.6)


def _place(one: Row) -> tuple[float, float]:
    alarms = one["quiet_alarms"] or _AT_MOST
    return one["quiet_observations"] / alarms, one["ratio_to_oracle"]


def _write_beside(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Names above their points, higher where another name is already."""
    axes.autoscale_view()
    taken: list[tuple[float, float]] = []
    for x, y, name, colour in sorted(labels, key=lambda label: label[1]):
        across, up = axes.transData.transform((x, y))
        level = up
        while any(abs(across - left) < 150 and abs(level - height) < 12 for left, height in taken):
            level += 4
        taken.append((across, level))
        offset = (6, 3 + (level - up) * 72 / axes.figure.dpi)
        axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", fontsize=7, color=colour)


def _label(one: Row) -> str:
    return f"{one['detector']}, {one['reference']:,}" if one["reference"] else one["detector"]


def _colour(one: Row, about: Row) -> str:
    return _OURS if one["detector"] in about["ours"] else _OTHERS


if __name__ == "__main__":
    main()
