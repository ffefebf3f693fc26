"""One switch told as a story: everything that speaks of it on one time axis, from the first sign to the proof."""

from dashboards.panels import (
    COLUMNS,
    DESIRED,
    DIAGNOSES,
    ENGINES,
    INSTANCE,
    MODEL,
    STATES,
    SWITCHES,
    VERDICTS,
    Page,
    Panel,
    Query,
    Section,
    Variable,
    bands,
    count,
    lines,
)

_ONE = Variable(name="model", label="Model", query=MODEL.query, several=False)
_SITE = 'instance=~"$instance"'
_OF = f'{_SITE},model="$model"'


def _mean(metric: str, by: str, selector: str) -> str:
    def sums(what: str) -> str:
        return f"sum by ({by}) (rate({metric}_{what}{{{selector}}}[$__rate_interval]))"

    return f"{sums('sum')} / {sums('count')}"


_CAUSE: tuple[Panel, ...] = (
    lines(
        "1. Canaries' verdicts",
        "The first probe that is not healthy is where the story begins; a burst of confirming probes follows at once.",
        Query(expr=count("watchdog_probes_total", "verdict", _OF), legend="{{verdict}}"),
        stacked=True,
        colours=VERDICTS,
    ),
    lines(
        "2. Scores against limits",
        "How wrong: each measure of the answers and its limit. The engine that is wrong crosses, the other does not.",
        Query(
            expr=f"max by (engine, path, output, measure) (watchdog_score{{{_OF}}})",
            legend="{{output}} {{measure}} ({{engine}}, {{path}})",
        ),
        Query(
            expr=f"max by (output, measure) (watchdog_score_limit{{{_OF}}})",
            legend="limit of {{output}} {{measure}}",
        ),
    ),
    lines(
        "3. Findings",
        "What was found, by engine. Findings of both engines say that switching would not help.",
        Query(
            expr=f"{count('watchdog_findings_total', 'engine, reason', _OF)} > 0",
            legend="{{reason}} ({{engine}})",
        ),
    ),
    lines(
        "4. Latency, host and device",
        "Mean times of canaries. The safe engine is slower by nature: a step at the switch is its price.",
        *(
            Query(
                expr=_mean(f"watchdog_probe_{where}_seconds", "engine", _OF),
                legend=f"{where} ({{{{engine}}}})",
            )
            for where in ("duration", "device", "host")
        ),
        unit="s",
        min=0,
    ),
    lines(
        "5. Drift",
        "Evidence against its limit. A slow climb before the switch says that the change was small at first.",
        Query(expr=f"max by (source, reading) (watchdog_drift_evidence{{{_OF}}})", legend="{{source}} {{reading}}"),
        Query(
            expr=f"max by (source, reading) (watchdog_drift_evidence_limit{{{_OF}}})",
            legend="limit of {{source}} {{reading}}",
        ),
    ),
)

_ACT: tuple[Panel, ...] = (
    bands(
        "6. State",
        "How the policy went: confirming, proving the target, switching, and where it came to rest.",
        Query(expr=f"max by (state) (watchdog_state{{{_OF}}}) == 1", legend="{{state}}"),
        colours=STATES,
    ),
    bands(
        "7. Route, desired and observed",
        "Desired moves first; observed follows with the proof. If it does not, the switch did not take.",
        Query(expr=f"max by (engine) (watchdog_route_desired{{{_OF}}}) == 1", legend="desired {{engine}}"),
        Query(expr=f"max by (engine) (watchdog_route_observed{{{_OF}}}) == 1", legend="observed {{engine}}"),
        colours=ENGINES,
    ),
    lines(
        "8. The fast engine's share",
        "1 and 0 are whole routes; steps between them are a return.",
        Query(expr=f"min(watchdog_route_fast_ratio{{{_OF}}})", legend="fast engine"),
        unit="percentunit",
        steps=True,
        min=0,
        max=1,
    ),
    lines(
        "9. What people were told",
        "Conditions that the channels pushed, and alerts of Prometheus' rules that fired.",
        Query(
            expr=f'max by (condition, severity) (watchdog_condition{{{_SITE},model=~"$model|"}})',
            legend="{{condition}} ({{severity}})",
        ),
        Query(
            expr='max by (alertname, severity) (ALERTS{alertstate="firing",alertname=~"Watchdog.+",model=~"$model|"})',
            legend="rule {{alertname}} ({{severity}})",
        ),
        steps=True,
    ),
    lines(
        "10. Switches and why",
        "What came of each switch, and the reason of the decision that ordered it.",
        Query(
            expr=f"{count('watchdog_switches_total', 'to, outcome', _OF)} > 0",
            legend="to {{to}}: {{outcome}}",
        ),
        Query(
            expr=f"{count('watchdog_switch_reasons_total', 'reason', _OF)} > 0",
            legend="because of {{reason}}",
        ),
    ),
)

_AROUND: tuple[Panel, ...] = (
    lines(
        "11. The server's traffic",
        "Requests by engine: patients' traffic moves from one line to the other.",
        Query(expr=f"max by (engine) (watchdog_server_requests_per_second{{{_OF}}})", legend="{{engine}}"),
        unit="reqps",
        min=0,
    ),
    lines(
        "12. GPU memory",
        "Both engines in memory at once is what a proof costs; a step that stays is an engine not unloaded.",
        Query(expr=f"max by (gpu) (watchdog_gpu_memory_used_bytes{{{_SITE}}})", legend="{{gpu}}"),
        Query(expr=f"max by (gpu) (watchdog_gpu_memory_total_bytes{{{_SITE}}})", legend="limit: {{gpu}} has"),
        unit="bytes",
        min=0,
    ),
    lines(
        "13. GPU busy",
        "A GPU that was busy before the first sign suggests load, not a wrong engine.",
        Query(expr=f"max by (gpu) (watchdog_gpu_busy_ratio{{{_SITE}}})", legend="{{gpu}}"),
        unit="percentunit",
        min=0,
        max=1,
    ),
)


def _stacked(panels: tuple[Panel, ...]) -> tuple[Panel, ...]:
    """One above the other, so that a moment is one vertical line."""
    return tuple(panel.wide(COLUMNS, 6) for panel in panels)


PAGE = Page(
    name="switch",
    title="Inference watchdog: one switch",
    says=__doc__.strip(),
    variables=(INSTANCE, _ONE),
    sections=(
        Section(title="Why", panels=_stacked(_CAUSE)),
        Section(title="What was done", panels=_stacked(_ACT)),
        Section(title="Around it", panels=_stacked(_AROUND)),
    ),
    annotations=(SWITCHES, DIAGNOSES, DESIRED),
    selector=_OF,
    span="now-1h",
)
