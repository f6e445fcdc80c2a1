"""One real scheduler, N real workers and the agent: starting, asking and stopping them."""
