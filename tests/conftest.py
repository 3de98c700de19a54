"""For all tests: examples of properties have no deadline, because a busy machine takes its time."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
