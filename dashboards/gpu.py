"""The GPUs beside the servers: memory and its growth, work, clocks and heat, errors, and whether they are seen."""

from dashboards.panels import GPU, INSTANCE, Page, Query, Section, bands, bars, count, lines, row_of, table

_SITE = 'instance=~"$instance"'
_OF = f'{_SITE},gpu=~"$gpu"'


def _of(metric: str, by: str = "gpu") -> str:
    return f"max by ({by}) (watchdog_gpu_{metric}{{{_OF}}})"


_MEMORY = Section(
    title="Memory",
    panels=(
        lines(
            "Memory in use",
            "By whomever. Near the limit, loading an engine or a larger batch fails.",
            Query(expr=_of("memory_used_bytes"), legend="{{gpu}}"),
            Query(expr=_of("memory_total_bytes"), legend="limit: {{gpu}} has"),
            unit="bytes",
            min=0,
        ),
        lines(
            "Growth",
            "Trend of each process over the window. The lower bound is what it grows by at least: above 0 for long, it "
            "leaks.",
            Query(
                expr=_of("memory_growth_bytes_per_hour", "gpu, process, bound"),
                legend="{{process}} {{bound}} ({{gpu}})",
            ),
            unit="bytes",
        ),
        bars(
            "Processes",
            "GPU memory of all processes of a name. One that should not be there is a neighbour.",
            Query(expr=_of("process_memory_bytes", "gpu, process"), legend="{{process}} ({{gpu}})"),
            unit="bytes",
        ),
        lines(
            "MIG instances",
            "Memory in use of each instance. Empty where the GPU is not divided.",
            Query(expr=_of("mig_memory_used_bytes", "gpu, mig"), legend="{{mig}}"),
            Query(expr=_of("mig_memory_total_bytes", "gpu, mig"), legend="limit: {{mig}} has"),
            unit="bytes",
            min=0,
        ),
        bands(
            "Leaks",
            "Green where a process' trend is a leak by the watchdog's test, not by eye.",
            Query(expr=_of("memory_leaking", "gpu, process"), legend="{{process}} ({{gpu}})"),
        ),
    ),
)

_WORK = Section(
    title="Work, clocks and heat",
    panels=(
        lines(
            "Busy",
            "Share of time in which a kernel ran, and in which memory was read or written.",
            Query(expr=_of("busy_ratio"), legend="{{gpu}} kernels"),
            Query(expr=_of("memory_busy_ratio"), legend="{{gpu}} memory"),
            unit="percentunit",
            min=0,
            max=1,
        ).wide(8),
        lines(
            "Clocks",
            "A clock that falls while the GPU is busy makes every answer slower.",
            Query(expr=_of("sm_clock_hertz"), legend="{{gpu}} multiprocessors"),
            Query(expr=_of("memory_clock_hertz"), legend="{{gpu}} memory"),
            unit="hertz",
            min=0,
        ).wide(8),
        bands(
            "Throttled",
            "For which reason the clocks are lowered. Heat and power brakes need somebody; an idle GPU does not.",
            Query(expr=_of("throttled", "gpu, reason"), legend="{{gpu}} {{reason}}"),
        ).wide(8),
        lines(
            "Temperature",
            "Where it stands when throttling begins is this GPU's own limit.",
            Query(expr=_of("temperature_celsius"), legend="{{gpu}}"),
            unit="celsius",
        ),
        lines(
            "Power",
            "Power drawn. Level at the card's cap while busy is full work, or a brake.",
            Query(expr=_of("power_watts"), legend="{{gpu}}"),
            unit="watt",
            min=0,
        ),
    ),
)

_ERRORS = Section(
    title="Errors, and what is seen",
    panels=(
        lines(
            "XID errors",
            "Critical errors that the driver reported, by number; NVIDIA's list says what each is.",
            Query(expr=count("watchdog_gpu_xid_errors_total", "gpu, xid", _OF), legend="{{gpu}} XID {{xid}}"),
            min=0,
        ).wide(8),
        lines(
            "Memory errors (ECC)",
            "Since the driver was loaded. Uncorrected ones may have changed an answer.",
            Query(expr=_of("ecc_corrected"), legend="{{gpu}} corrected"),
            Query(expr=_of("ecc_uncorrected"), legend="{{gpu}} uncorrected"),
            min=0,
        ).wide(8),
        bands(
            "State of each GPU",
            "Up, or lost, denied, failing: a GPU that is lost serves nobody.",
            Query(expr=f"{_of('state', 'gpu, state')} == 1", legend="{{gpu}} {{state}}"),
            colours={"up": "green", "lost": "red", "denied": "purple", "failing": "orange"},
        ).wide(8),
        bands(
            "Sources",
            "On which condition the GPUs can be watched. Absent: no driver here, and nothing on this page.",
            Query(
                expr=f"max by (instance, source, state) (watchdog_gpu_source_state{{{_SITE}}}) == 1",
                legend="{{instance}} {{source}} {{state}}",
            ),
            colours={"up": "green", "absent": "text", "denied": "purple", "failing": "orange"},
        ),
        table(
            "GPUs",
            "Which card is where, and its driver.",
            row_of(f"max by (instance, gpu, name, driver) (watchdog_gpu_info{{{_OF}}})", "gpu"),
            hide=("Value", "Value #A"),
        ),
    ),
)

PAGE = Page(
    name="gpu",
    title="Inference watchdog: GPUs",
    says=__doc__.strip(),
    variables=(INSTANCE, GPU),
    sections=(_MEMORY, _WORK, _ERRORS),
)
