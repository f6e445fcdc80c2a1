"""Bundles: what users ship to workers. What one is, read from its files alone; nothing of it is imported here."""
