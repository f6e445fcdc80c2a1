"""What runs inside a cell: standard library and distributed only, so that it does not disturb what is measured.

A sandbox copies this directory into its cell as the package `modelops_remote`; nothing here imports `pytest_modelops`.
"""
