"""pytest's side of a run: collection, execution, xdist, progress."""
