"""The `docker` backend: every process of a cell runs in a container of its own.

- `engine` finds the engine; `belongings` knows what runs have made on it.
- `images`, `contents`, `packages`, `layers` and `audit` make an environment of an image.
- `sandbox` is a cell: a `network`, `shared_files`, and `containers` with a `process` each, reached over a `link`.

Imported only when the backend is used.
"""
