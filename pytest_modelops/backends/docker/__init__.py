"""The `docker` backend: every process of a cell in a container of its own. Nothing outside knows that word.

`backend` puts it together: `engine` finds the engine and speaks with it, `images` makes what runs there, `sandbox` is a
cell's network and containers, `process` one of them over its `link`, and `belongings` whatever is on an engine by us.
Imported only when the backend is used.
"""
