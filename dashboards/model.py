"""One model: what canaries show, how far each score is from its limit, how long it takes, who serves."""

from dashboards.panels import (
    DIAGNOSES,
    ENGINE,
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
    ago,
    bands,
    count,
    heat,
    lines,
    number,
    quantile,
    rate,
    row_of,
)

_ONE = Variable(name="model", label="Model", query=MODEL.query, several=False)
_REFERENCE = 'watchdog_confidence_reference_observations{instance=~"$instance",model="$model"}'
_SOURCE = Variable(name="source", label="Confidences of", query=f"label_values({_REFERENCE}, source)", several=False)
_OUTPUT = Variable(name="output", label="Output", query=f"label_values({_REFERENCE}, output)", several=False)

_OF = 'instance=~"$instance",model="$model"'
_BY = f'{_OF},engine=~"$engine"'
_PUBLIC = f'{_BY},path="public"'
_BINS = f'{_OF},source="$source",output="$output"'

_NOW = Section(
    title="Now",
    panels=(
        number(
            "Since the last right answer",
            "Time since the public name answered a canary rightly. Above two probe intervals something is wrong.",
            Query(
                expr=f"min({ago(f'watchdog_last_healthy_probe_timestamp_seconds{{{_OF}}}')})",
                legend="age",
            ),
            unit="s",
        ),
        number(
            "Probe interval",
            "From one canary by the public name to the next, by the configuration.",
            Query(expr=f"max(watchdog_probe_interval_seconds{{{_OF}}})", legend="interval"),
            unit="s",
        ),
        number(
            "Confirmed fault",
            "1 while a fault of the engine that should serve is confirmed.",
            Query(expr=f"max(watchdog_engine_fault{{{_OF}}})", legend="fault"),
            bad_above=1,
        ),
        number(
            "Fast engine's share",
            "The share of ordinary traffic that the fast engine should get.",
            Query(expr=f"min(watchdog_route_fast_ratio{{{_OF}}})", legend="share"),
            unit="percentunit",
        ),
        number(
            "Objective",
            "The share of canaries by the public name that should be right and in time.",
            Query(expr=f"max(watchdog_objective_ratio{{{_OF}}})", legend="objective"),
            unit="percentunit",
        ),
        number(
            "Canaries",
            "Canaries in the baseline in force: the breadth of what is asked.",
            Query(expr=f"max(watchdog_baseline_canaries{{{_OF}}})", legend="canaries"),
        ),
        bands(
            "State",
            "Green: the fast engine serves. Blue: the safe one. Yellow and orange pass within moments. Red: no engine "
            "is right, or none can be moved to.",
            Query(expr=f"max by (state) (watchdog_state{{{_OF}}}) == 1", legend="{{state}}"),
            colours=STATES,
        ),
        bands(
            "Route, desired and observed",
            "The two should show the same engine; between a switch and its proof they differ for a moment.",
            Query(expr=f"max by (engine) (watchdog_route_desired{{{_OF}}}) == 1", legend="desired {{engine}}"),
            Query(expr=f"max by (engine) (watchdog_route_observed{{{_OF}}}) == 1", legend="observed {{engine}}"),
            colours=ENGINES,
        ),
    ),
)

_ANSWERS = Section(
    title="Answers",
    panels=(
        lines(
            "Probes by verdict",
            "Canaries by the public name a second. Suspect: right but slow; failed: wrong; inconclusive: could not "
            "measure.",
            Query(expr=rate("watchdog_probes_total", "verdict", _PUBLIC), legend="{{verdict}}"),
            unit="ops",
            stacked=True,
            colours=VERDICTS,
        ),
        lines(
            "Findings by reason",
            "What was wrong with answers, on any path. The most specific reason names the fault.",
            Query(
                expr=f"{count('watchdog_findings_total', 'engine, path, reason', _BY)} > 0",
                legend="{{reason}} ({{engine}}, {{path}})",
            ),
        ),
        lines(
            "Scores against limits",
            "The newest number of each measure, and its limit. Whether above or below is wrong depends on the "
            "measure: what matters is that a line crosses its limit.",
            Query(
                expr=f"max by (engine, path, output, measure) (watchdog_score{{{_BY}}})",
                legend="{{output}} {{measure}} ({{engine}}, {{path}})",
            ),
            Query(
                expr=f"max by (output, measure) (watchdog_score_limit{{{_OF}}})",
                legend="limit of {{output}} {{measure}}",
            ),
        ),
        lines(
            "Drift: evidence against its limit",
            "What sequential detectors have gathered. Noise goes up and comes down; a lasting change climbs. At the "
            "limit the detector alarms.",
            Query(expr=f"max by (source, reading) (watchdog_drift_evidence{{{_OF}}})", legend="{{source}} {{reading}}"),
            Query(
                expr=f"max by (source, reading) (watchdog_drift_evidence_limit{{{_OF}}})",
                legend="limit of {{source}} {{reading}}",
            ),
        ),
        lines(
            "Drift: alarms and what was set aside",
            "Alarms of detectors, and observations that were not used, by why. Many set aside means that little is "
            "watched.",
            Query(
                expr=count("watchdog_drift_alarms_total", "source, reading", _OF),
                legend="alarm of {{source}} {{reading}}",
            ),
            Query(
                expr=f"{count('watchdog_drift_ignored_total', 'source, reading, condition', _OF)} > 0",
                legend="set aside: {{condition}} ({{source}} {{reading}})",
            ),
            min=0,
        ).wide(8),
        lines(
            "Drift: observations",
            "How much each detector has seen since it began afresh, and the mean run to a false alarm that it "
            "promises; and how far a reference is learnt.",
            Query(
                expr=f"max by (source, reading) (watchdog_drift_observations{{{_OF}}})",
                legend="{{source}} {{reading}}",
            ),
            Query(
                expr=f"max by (source, reading) (watchdog_drift_promised_run_length_observations{{{_OF}}})",
                legend="promised {{source}} {{reading}}",
            ),
            Query(
                expr=f"max by (source, reading) (watchdog_drift_reference_observations{{{_OF}}})",
                legend="learnt {{source}} {{reading}}",
            ),
            Query(
                expr=f"max by (source, reading) (watchdog_drift_reference_wanted_observations{{{_OF}}})",
                legend="to be learnt {{source}} {{reading}}",
            ),
        ).wide(8),
        lines(
            "Diagnoses",
            "Bursts of confirming probes, by conclusion and by the finding that they rest on. Many transients mean "
            "that single answers are wrong now and then.",
            Query(expr=count("watchdog_diagnoses_total", "conclusion", _OF), legend="{{conclusion}}"),
            Query(
                expr=f"{count('watchdog_diagnosis_reasons_total', 'reason', _OF)} > 0",
                legend="because of {{reason}}",
            ),
            min=0,
        ).wide(8),
        bands(
            "Engines that are not what was vetted",
            "Green where an engine's tag differs from the baseline's or the runtime's, or its shapes are off its "
            "profile. Empty where the server doesn't tell.",
            Query(expr=f"max by (engine, reason) (watchdog_engine_mismatch{{{_BY}}})", legend="{{engine}}: {{reason}}"),
        ).wide(24, 5),
    ),
)


def _histogram() -> Panel:
    now = f"sum by (bin) (increase(watchdog_confidences_total{{{_BINS}}}[$__range]))"
    reference = f"sum by (bin) (watchdog_confidence_reference_observations{{{_BINS}}})"
    return Panel(
        kind="barchart",
        title="Confidences and their reference",
        says="Share of confidences in each bin, named by its upper edge, over the time shown, and of the reference. "
        "Bars that moved together say that the distribution did.",
        queries=(
            row_of(f"{now} / on () group_left () (sum({now}) > 0)", "now"),
            row_of(f"{reference} / on () group_left () sum({reference})", "reference"),
        ),
        defaults={"unit": "percentunit", "min": 0, "color": {"mode": "palette-classic"}},
        options={
            "xField": "bin",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi"},
        },
        transformations=(
            {"id": "merge", "options": {}},
            {"id": "sortBy", "options": {"sort": [{"field": "bin"}]}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "renameByName": {"Value #A": "time shown", "Value #B": "reference"},
                },
            },
        ),
    )


_CONFIDENCES = Section(
    title="Confidences",
    panels=(
        _histogram(),
        lines(
            "PSI of confidences",
            "How far the last hour's confidences are from their reference, over all watchdogs of this model. Below its "
            "limit the difference may be chance. Needs the shipped recording rules.",
            Query(expr='watchdog:confidence_psi:1h{model="$model"}', legend="{{output}} ({{source}})"),
            Query(expr='watchdog:confidence_psi_limit:1h{model="$model"}', legend="limit of {{output}} ({{source}})"),
            min=0,
        ),
    ),
)

_LATENCY = Section(
    title="Latency",
    panels=(
        heat(
            "Round trips",
            "How canaries' round trips by the public name are distributed. A second band is a second cause.",
            Query(expr=rate("watchdog_probe_duration_seconds_bucket", "le", _PUBLIC), legend="{{le}}", exemplars=True),
        ),
        lines(
            "Round trips against limits",
            "95th percentile by engine and shape profile, and the limit above which a probe is slow.",
            Query(
                expr=quantile(0.95, "watchdog_probe_duration_seconds", "engine, profile", _PUBLIC),
                legend="{{engine}} {{profile}}",
            ),
            Query(
                expr=f"max by (engine, profile) (watchdog_probe_duration_limit_seconds{{{_BY}}})",
                legend="limit of {{engine}} {{profile}}",
            ),
            unit="s",
            min=0,
        ),
        lines(
            "Host and device",
            "Means of what the device took and of everything else. The device alone says: the engine, the clock or the "
            "neighbour; the host alone: network, queue, CPU.",
            *(
                Query(
                    expr=f"{rate(f'watchdog_probe_{where}_seconds_sum', 'engine', _PUBLIC)}"
                    f" / {rate(f'watchdog_probe_{where}_seconds_count', 'engine', _PUBLIC)}",
                    legend=f"{where} ({{{{engine}}}})",
                )
                for where in ("device", "host")
            ),
            Query(
                expr=f"max by (engine, measure, share) (watchdog_latency_objective_seconds{{{_BY}}})",
                legend="limit of {{measure}} for a share of {{share}} ({{engine}})",
            ),
            unit="s",
            min=0,
        ),
        lines(
            "Parts of traced probes",
            "Mean time of each part; together they are the whole. Empty unless servers' traces are taken in.",
            Query(
                expr=f"{rate('watchdog_probe_part_seconds_sum', 'part', _PUBLIC)} / on () group_left ()"
                f" sum(rate(watchdog_probe_duration_seconds_count{{{_PUBLIC}}}[$__rate_interval]))",
                legend="{{part}}",
            ),
            unit="s",
            stacked=True,
        ),
        lines(
            "Objectives missed",
            "Share of probes slower than each latency objective allows, and the share that may be.",
            Query(
                expr=f"{rate('watchdog_latency_objective_misses_total', 'engine, measure, share', _BY)}"
                f" / {rate('watchdog_latency_objective_probes_total', 'engine, measure, share', _BY)}",
                legend="{{engine}} {{measure}} {{share}}",
            ),
            Query(
                expr=f"1 - max by (engine, measure, share) (watchdog_latency_objective_ratio{{{_BY}}})",
                legend="limit of {{engine}} {{measure}} {{share}}",
            ),
            unit="percentunit",
            min=0,
        ),
        lines(
            "How device time was learnt",
            "Answered probes a second: by the probe's own trace, by the server's means, or not at all. The first is "
            "this very probe's, the second a mean of all traffic.",
            Query(
                expr=rate("watchdog_probes_attributed_total", "engine, attribution", _BY),
                legend="{{attribution}} ({{engine}})",
            ),
            unit="ops",
            stacked=True,
        ),
    ),
)

_LOAD = Section(
    title="The server's own counts, all traffic",
    panels=(
        lines(
            "Requests",
            "Requests a second by engine, canaries included, and inferences: a request has one for each image.",
            Query(
                expr=f"max by (engine) (watchdog_server_requests_per_second{{{_BY}}})",
                legend="{{engine}} requests",
            ),
            Query(
                expr=f"max by (engine) (watchdog_server_inferences_per_second{{{_BY}}})",
                legend="{{engine}} inferences",
            ),
            unit="reqps",
            min=0,
        ).wide(8),
        lines(
            "Time in the server",
            "Mean time of a successful request, by part. A queue that grows says overload.",
            Query(
                expr=f"max by (engine, part) (watchdog_server_request_seconds{{{_BY}}})",
                legend="{{engine}} {{part}}",
            ),
            unit="s",
            stacked=True,
        ).wide(8),
        lines(
            "Busy",
            "Seconds of execution a second; 1 is one instance without a pause.",
            Query(expr=f"max by (engine) (watchdog_server_busy_ratio{{{_BY}}})", legend="{{engine}} busy"),
            Query(expr=f"max by (engine) (watchdog_server_queue_ratio{{{_BY}}})", legend="{{engine}} waiting"),
            unit="percentunit",
            min=0,
        ).wide(8),
        lines(
            "Batches and cache",
            "Mean inferences of an execution, and the share of requests that the response cache answered.",
            Query(expr=f"max by (engine) (watchdog_server_batch_size{{{_BY}}})", legend="{{engine}} batch"),
            Query(expr=f"max by (engine) (watchdog_server_cache_hit_ratio{{{_BY}}})", legend="{{engine}} cache"),
            min=0,
        ).wide(12),
        lines(
            "Failures",
            "Failed requests a second, by reason.",
            Query(
                expr=f"max by (engine, reason) (watchdog_server_failures_per_second{{{_BY}}})",
                legend="{{engine}} {{reason}}",
            ),
            unit="reqps",
            min=0,
        ),
    ),
)

PAGE = Page(
    name="model",
    title="Inference watchdog: one model",
    says=__doc__.strip(),
    variables=(INSTANCE, _ONE, ENGINE, _SOURCE, _OUTPUT),
    sections=(_NOW, _ANSWERS, _CONFIDENCES, _LATENCY, _LOAD),
    annotations=(SWITCHES, DIAGNOSES),
    selector=_OF,
)
