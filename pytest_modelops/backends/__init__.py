"""What cells run on: one module or directory a backend, and the registry of them."""
