"""The watchdog's own HTTP server: metrics, health, status and commands.

Handlers translate between HTTP and one `Service`; they decide nothing themselves.
"""
