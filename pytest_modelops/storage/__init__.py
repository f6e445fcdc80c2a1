"""Files and directories that several processes share: written whole, locked, and removed when nothing uses them."""
