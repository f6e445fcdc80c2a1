"""Used on both sides of a process boundary. Standard library only."""
