"""Where what was learnt of the live stream is kept, so that a restart forgets nothing.

An adapter of the `Evidence` port belongs here, one kind of storage a file.
"""
