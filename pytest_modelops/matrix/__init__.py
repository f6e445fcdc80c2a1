"""Which cells there are: versions, cells and the plan. Knows nothing of how a cell is run."""
