"""Unit tests: pure logic."""

from __future__ import annotations

from hypothesis import settings

# A time limit for an example would assert the speed of the machine.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
