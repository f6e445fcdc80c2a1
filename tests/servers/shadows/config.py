"""The runtime's settings, which have a RATE as well."""

RATE = 8.0
