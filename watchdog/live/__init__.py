"""Patients' answers, as far as the watchdog sees them: grouped by study, learnt from, watched for drift.

What runs here knows ports, never adapters, and keeps nothing of a patient: a study's key and a
mirrored image are in memory only, and only while they are needed.
"""

from watchdog.live.feed import Feed
from watchdog.live.learnt import Answering, Subject, Unfit
from watchdog.live.settings import LiveSettings, ShadowSettings
from watchdog.live.shadow import Mirrored, Shadow
from watchdog.live.studies import Slice, Studies
from watchdog.live.watch import LiveWatch

__all__ = [
    "Answering",
    "Feed",
    "LiveSettings",
    "LiveWatch",
    "Mirrored",
    "Shadow",
    "ShadowSettings",
    "Slice",
    "Studies",
    "Subject",
    "Unfit",
]
