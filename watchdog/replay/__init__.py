"""What drift detectors would have said about a recorded stream: reading records, running over them, drawing.

Here belongs what looks back. Nothing here decides anything, and nothing that watches imports it.
"""
