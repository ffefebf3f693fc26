"""The records that flow through the watchdog: frozen facts, one noun a file.

Nothing here does I/O, reads a clock or decides anything. Every other layer may import these.
"""
