"""Runs in a cell's workers and its scheduler. Standard library and distributed only."""
