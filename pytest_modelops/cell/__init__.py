"""The living cell: what users call, running checks, starting and stopping."""
