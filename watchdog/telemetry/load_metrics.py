"""All traffic of each engine, by the server's own counts: gauges, since a server's counters are its own to export."""

from watchdog.model.event import LoadSeen
from watchdog.telemetry.declared import Group, Registered


class LoadMetrics:
    """The newest interval's rates and means. What had no traffic has no mean: its series is gone."""

    def __init__(self, metrics: Registered) -> None:
        self._metrics = metrics

    def take(self, event: LoadSeen) -> None:
        """Show the newest interval; nothing of an engine whose counts can't be read."""
        load, by = event.load, (event.model, str(event.role))
        self._metrics.remove(Group.LOAD, model=event.model, engine=str(event.role))
        if load is None:
            return
        for reason, rate in load.failures_per_s.items():
            self._metrics.gauge("watchdog_server_failures_per_second").labels(*by, reason).set(rate)
        for part, seconds in load.mean_s.items():
            self._metrics.gauge("watchdog_server_request_seconds").labels(*by, part).set(seconds)
        for name, value in (
            ("requests_per_second", load.requests_per_s),
            ("inferences_per_second", load.inferences_per_s),
            ("busy_ratio", load.busy_ratio),
            ("batch_size", load.batch_size),
            ("cache_hit_ratio", load.cache_hit_ratio),
            ("queue_ratio", load.queue_share),
        ):
            if value is not None:
                self._metrics.gauge(f"watchdog_server_{name}").labels(*by).set(value)
