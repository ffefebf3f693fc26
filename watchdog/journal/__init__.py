"""Where decisions, switches and notices are written down before they take effect.

An adapter of the `Journal` port belongs here, one kind of storage a file.
"""
