"""What holds for every test."""

from hypothesis import settings

# How long an example takes says more about the neighbours on this machine than about our code.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
