"""Property tests without a deadline: how long an example takes is the machine's affair."""

from hypothesis import settings

settings.register_profile("core", deadline=None, max_examples=60)
settings.load_profile("core")
