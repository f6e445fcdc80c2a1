"""Starts the reference runner (`reference.py`). Python compiles a script at each start, but a module only once."""

import sys

AT_START = frozenset(sys.modules)
"""What every Python has imported before it runs a script."""

import importlib.util
import os

if __name__ == "__main__":
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference.py")
    spec = importlib.util.spec_from_file_location("_modelops_reference", path)  # a name that no module of a bundle has
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    sys.exit(reference.main(AT_START))
