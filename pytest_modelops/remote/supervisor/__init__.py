"""Programs that start processes and outlive none of them. Standard library only."""
