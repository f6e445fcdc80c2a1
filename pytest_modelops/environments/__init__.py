"""Where a role's Python and packages live, and where a cell's processes run: one module a backend."""
