"""Runs in a bundle's own environment. Standard library only."""
