"""Who may move a route that several watchdogs share, by what Kubernetes or Prometheus hold anyway."""
