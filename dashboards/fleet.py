"""All models of all watchdogs: who serves, who is wrong, who has been told, and whether the watchdogs are well."""

from dashboards.panels import (
    DIAGNOSES,
    ENGINES,
    INSTANCE,
    MODEL,
    STATES,
    SWITCHES,
    VERDICTS,
    Page,
    Query,
    Section,
    ago,
    bands,
    count,
    lines,
    number,
    quantile,
    rate,
    row_of,
    table,
)

_SITE = 'instance=~"$instance"'
_OF = f'{_SITE},model=~"$model"'
_PUBLIC = f'{_OF},path="public"'

_NOW = Section(
    title="Now",
    panels=(
        number(
            "Watchdogs up",
            "Watchdogs that watch every model of theirs. Fewer than you run: see WatchdogStarting and WatchdogAbsent.",
            Query(expr=f"sum(watchdog_up{{{_SITE}}})", legend="up"),
            good=1,
        ),
        number(
            "Models watched",
            "Models with a baseline in force; two watchdogs of one model count it once.",
            Query(expr=f"count(count by (model) (watchdog_probe_interval_seconds{{{_OF}}}))", legend="models"),
        ),
        number(
            "Served by safe engines",
            "Models whose ordinary traffic should get the safe engine: right, but slower. Above 0 somebody should "
            "look.",
            Query(
                expr=f'count(max by (model) (watchdog_route_desired{{{_OF},engine="safe"}}) == 1) or vector(0)',
                legend="models",
            ),
            bad_above=1,
        ),
        number(
            "Confirmed faults",
            "Models whose serving engine has a confirmed fault. Above 0 patients' images may get wrong answers.",
            Query(expr=f"sum(max by (model) (watchdog_engine_fault{{{_OF}}}))", legend="faults"),
            bad_above=1,
        ),
        number(
            "Conditions told",
            "What people are told of now, by every severity; the table below names each.",
            Query(
                expr=f'count(watchdog_condition{{{_SITE},model=~"$model|"}}) or vector(0)',
                legend="conditions",
            ),
            bad_above=1,
        ),
        number(
            "Longest since a right answer",
            "Of all models, the longest time since the public name answered a canary rightly. It should stay below two "
            "probe intervals.",
            Query(
                expr=f"max({ago(f'watchdog_last_healthy_probe_timestamp_seconds{{{_OF}}}')})",
                legend="age",
            ),
            unit="s",
        ),
        table(
            "Models",
            "One row for each model and watchdog: its state, the engine that should serve, and seconds since the "
            "public name was last right. Two watchdogs that disagree about one model see different things.",
            row_of(f"max by (instance, model, state) (watchdog_state{{{_OF}}} == 1)", "state"),
            row_of(f"max by (instance, model, engine) (watchdog_route_desired{{{_OF}}} == 1)", "engine"),
            row_of(
                f"max by (instance, model) ({ago(f'watchdog_last_healthy_probe_timestamp_seconds{{{_OF}}}')})", "age"
            ),
            hide=("Value #A", "Value #B"),
            names={"engine": "should serve", "Value #C": "seconds since right"},
        ).wide(14),
        table(
            "What people are told now",
            "The very conditions that the channels push. Each has a runbook of its name.",
            row_of(
                "max by (condition, severity, model, engine, gpu, process)"
                f' (watchdog_condition{{{_SITE},model=~"$model|"}})',
                "condition",
            ),
            hide=("Value", "Value #A"),
        ).wide(10),
    ),
)

_STORY = Section(
    title="What happened",
    panels=(
        bands(
            "State of each model",
            "Green: the fast engine serves. Blue: the safe one. Yellow and orange: being confirmed, proven or "
            "switched, which takes moments. Red: no engine is right, or none can be moved to.",
            Query(expr=f"max by (model, state) (watchdog_state{{{_OF}}}) == 1", legend="{{model}} {{state}}"),
            colours=STATES,
        ),
        bands(
            "Who serves, as observed",
            "The engine that ordinary traffic gets, by its newest answer or the router's account. A model with no band "
            "can't be observed.",
            Query(
                expr=f"max by (model, engine) (watchdog_route_observed{{{_OF}}}) == 1", legend="{{model}} {{engine}}"
            ),
            colours=ENGINES,
        ),
        lines(
            "Probes by verdict",
            "Probes of the public name a second. Suspect: right but slow; failed: wrong; inconclusive: could not "
            "measure, which by itself never moves traffic.",
            Query(expr=rate("watchdog_probes_total", "verdict", _PUBLIC), legend="{{verdict}}"),
            unit="ops",
            stacked=True,
            colours=VERDICTS,
        ),
        lines(
            "Switches",
            "Switches tried, by where to and what came of it. Refused or unproven ones need somebody.",
            Query(
                expr=count("watchdog_switches_total", "model, to, outcome", _OF),
                legend="{{model}} to {{to}}: {{outcome}}",
            ),
            steps=True,
        ),
        lines(
            "Alerts of Prometheus' rules",
            "How many alerts fire, by name. Empty where Grafana evaluates the rules instead: the panel of conditions "
            "tells the same.",
            Query(
                expr='count by (alertname) (ALERTS{alertstate="firing",alertname=~"Watchdog.+"})',
                legend="{{alertname}}",
            ),
            steps=True,
        ),
        lines(
            "Conditions",
            "How many conditions people are told of, by name.",
            Query(
                expr=f'count by (condition) (watchdog_condition{{{_SITE},model=~"$model|"}})', legend="{{condition}}"
            ),
            steps=True,
        ),
    ),
)

_OBJECTIVES = Section(
    title="Objectives and distributions",
    panels=(
        lines(
            "Error budget: burn rate",
            "1 spends exactly the budget; the alert rules page where a short and a long window are far above. Needs "
            "the shipped recording rules.",
            *(
                Query(
                    expr=f'watchdog:probe_errors:ratio_rate{window}{{model=~"$model"}}'
                    " / on (model) (1 - max by (model) (watchdog_objective_ratio))",
                    legend=f"{{{{model}}}} {window}",
                )
                for window in ("5m", "1h", "6h")
            ),
            min=0,
        ).wide(8),
        lines(
            "Latency budget: burn rate",
            "The same of each latency objective. Needs the shipped recording rules.",
            Query(
                expr='watchdog:latency_misses:ratio_rate1h{model=~"$model"} / on (model, engine, measure, share)'
                " (1 - max by (model, engine, measure, share) (watchdog_latency_objective_ratio))",
                legend="{{model}} {{engine}} {{measure}} {{share}}",
            ),
            min=0,
        ).wide(8),
        lines(
            "PSI of confidences",
            "How far the last hour's confidences are from their reference. Below its limit the difference may be "
            "chance; the limit falls as observations gather. Needs the shipped recording rules.",
            Query(
                expr='watchdog:confidence_psi:1h{model=~"$model"}',
                legend="{{model}} {{output}} ({{source}})",
            ),
            Query(
                expr='watchdog:confidence_psi_limit:1h{model=~"$model"}',
                legend="limit of {{model}} {{output}} ({{source}})",
            ),
            min=0,
        ).wide(8),
    ),
)

_CHANNELS = Section(
    title="Channels",
    panels=(
        table(
            "Channels",
            "Whether each took what it was given last, how many seconds ago that was, and since how many seconds the "
            "oldest notice waits.",
            row_of(f"max by (instance, channel) (watchdog_channel_up{{{_SITE}}})", "up"),
            row_of(
                f"max by (instance, channel) (time() - watchdog_channel_last_success_timestamp_seconds{{{_SITE}}})",
                "ago",
            ),
            row_of(
                f"max by (instance, channel) ({ago(f'watchdog_channel_oldest_pending_timestamp_seconds{{{_SITE}}}')})",
                "waits",
            ),
            names={"Value #A": "up", "Value #B": "seconds since a success", "Value #C": "seconds the oldest waits"},
        ).wide(6),
        lines(
            "Notices that wait",
            "Notices that a channel has not taken yet. They are kept through restarts, but nobody has heard of them.",
            Query(expr=f"max by (instance, channel) (watchdog_channel_pending{{{_SITE}}})", legend="{{channel}}"),
            min=0,
        ).wide(6),
        lines(
            "Deliveries",
            "Notices handed over, by outcome. Retried: the receiver was not there; refused: it said never again.",
            Query(
                expr=count("watchdog_deliveries_total", "channel, outcome", _SITE), legend="{{channel}}: {{outcome}}"
            ),
        ).wide(6),
        lines(
            "Heartbeats",
            "Beats to dead-man's switches. A watchdog that falls silent is called in by them.",
            Query(
                expr=count("watchdog_heartbeats_total", "heartbeat, outcome", _SITE),
                legend="{{heartbeat}}: {{outcome}}",
            ),
        ).wide(6),
    ),
)

_WATCHDOGS = Section(
    title="The watchdogs themselves",
    panels=(
        bands(
            "Sources",
            "Whether each source tells: the endpoint, its statistics, the router, the GPUs, the journal. A gap says "
            "that the watchdog sees less than it should.",
            Query(
                expr=f'max by (instance, source, model) (watchdog_source_up{{{_SITE},model=~"$model|"}})',
                legend="{{instance}} {{model}} {{source}}",
            ),
        ),
        lines(
            "Age of each source's news",
            "Seconds since a source told last. A line that climbs is a number on these pages that is getting old.",
            Query(
                expr="max by (instance, source, model) (time() -"
                f' watchdog_source_last_success_timestamp_seconds{{{_SITE},model=~"$model|"}})',
                legend="{{instance}} {{model}} {{source}}",
            ),
            unit="s",
            min=0,
        ),
        bands(
            "Who leads shared routes",
            "Of several watchdogs of one route the one that moves it. Two at once must not be; none for long is a "
            "route that nobody moves. Empty where routes aren't shared.",
            Query(expr=f"max by (instance, model) (watchdog_route_leader{{{_OF}}})", legend="{{model}}: {{instance}}"),
        ),
        lines(
            "Lag of the event loop",
            "By how much the watchdog wakes late, 99th percentile. Above half a second its own latencies can't be "
            "trusted: it has too little CPU.",
            Query(
                expr=quantile(0.99, "watchdog_loop_lag_seconds", "instance", _SITE),
                legend="{{instance}}",
            ),
            unit="s",
            min=0,
        ),
        lines(
            "Memory",
            "Resident memory of each watchdog. It should be level after some minutes.",
            Query(
                expr=f"process_resident_memory_bytes{{{_SITE}}} and on (instance, job) watchdog_up",
                legend="{{instance}}",
            ),
            unit="bytes",
            min=0,
        ).wide(6),
        lines(
            "CPU",
            "Cores in use. A sidecar should stay far below one.",
            Query(
                expr=f"rate(process_cpu_seconds_total{{{_SITE}}}[$__rate_interval]) and on (instance, job) watchdog_up",
                legend="{{instance}}",
            ),
            min=0,
        ).wide(6),
        lines(
            "Errors of its own",
            "Cycles and observers that failed. It should be 0; the log has the reasons.",
            Query(
                expr=count("watchdog_cycle_failures_total", "instance, model", _OF),
                legend="{{instance}} {{model}} cycle",
            ),
            Query(
                expr=count("watchdog_observer_failures_total", "instance", _SITE),
                legend="{{instance}} observer",
            ),
            min=0,
        ).wide(6),
        table(
            "Versions and series",
            "What runs where, how many series its scrape has, and whether the newest configuration was taken.",
            row_of(f"max by (instance, version) (watchdog_build_info{{{_SITE}}})", "version"),
            row_of(f"max by (instance) (watchdog_series{{{_SITE}}})", "series"),
            row_of(f"max by (instance) (watchdog_config_last_reload_successful{{{_SITE}}})", "reloaded"),
            hide=("Value #A",),
            names={"Value #B": "series", "Value #C": "reload taken"},
        ).wide(6),
    ),
)

PAGE = Page(
    name="fleet",
    title="Inference watchdog: fleet",
    says=__doc__.strip(),
    variables=(INSTANCE, MODEL),
    sections=(_NOW, _STORY, _OBJECTIVES, _CHANNELS, _WATCHDOGS),
    annotations=(SWITCHES, DIAGNOSES),
    selector=_OF,
)
