"""All traffic of each engine, by the server's own counts: gauges, since a server's counters are its own to export."""

from prometheus_client import CollectorRegistry, Gauge

from watchdog.model.event import LoadSeen

_BY = ["model", "engine"]


class LoadMetrics:
    """The newest interval's rates and means. What had no traffic has no mean: its series is gone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Gauge(
            "watchdog_server_requests_per_second", "Requests, canaries included.", _BY, registry=registry
        )
        self._inferences = Gauge(
            "watchdog_server_inferences_per_second",
            "Inferences: a request has one for each image.",
            _BY,
            registry=registry,
        )
        self._failures = Gauge(
            "watchdog_server_failures_per_second", "Failed requests, by reason.", [*_BY, "reason"], registry=registry
        )
        self._mean = Gauge(
            "watchdog_server_request_seconds",
            "Mean time of a successful request in the server, by part.",
            [*_BY, "part"],
            registry=registry,
        )
        self._batch = Gauge("watchdog_server_batch_size", "Mean inferences of an execution.", _BY, registry=registry)
        self._cached = Gauge(
            "watchdog_server_cache_hit_ratio", "Requests that the response cache answered.", _BY, registry=registry
        )
        self._queue = Gauge(
            "watchdog_server_queue_ratio",
            "Share of a request's time in the server that is waiting.",
            _BY,
            registry=registry,
        )
        self._busy = Gauge(
            "watchdog_server_busy_ratio",
            "Seconds of execution a second; 1 is one instance without a pause.",
            _BY,
            registry=registry,
        )

    def take(self, event: LoadSeen) -> None:
        """Show the newest interval; nothing of an engine whose counts can't be read."""
        load, by = event.load, (event.model, str(event.role))
        for gauge in vars(self).values():
            gauge.remove_by_labels(dict(zip(_BY, by, strict=True)))
        if load is None:
            return
        self._requests.labels(*by).set(load.requests_per_s)
        self._inferences.labels(*by).set(load.inferences_per_s)
        self._busy.labels(*by).set(load.busy_ratio)
        for reason, rate in load.failures_per_s.items():
            self._failures.labels(*by, reason).set(rate)
        for part, seconds in load.mean_s.items():
            self._mean.labels(*by, part).set(seconds)
        for gauge, value in (
            (self._batch, load.batch_size),
            (self._cached, load.cache_hit_ratio),
            (self._queue, load.queue_share),
        ):
            if value is not None:
                gauge.labels(*by).set(value)
