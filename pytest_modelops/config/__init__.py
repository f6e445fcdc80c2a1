"""Settings: what may be set, where it is read from, and one frozen `Settings`."""
