"""Settings of the property tests here."""

from hypothesis import settings

settings.register_profile("compiling", deadline=None)  # the first call of a kernel compiles it
settings.load_profile("compiling")
