"""Files and directories that several processes share: written whole, locked, and removed when no process uses them."""
