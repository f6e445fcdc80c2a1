"""Runs in a cell's client role. Standard library and distributed only."""
