"""pytest-modelops: real Dask clusters for every Python × Dask cell, as a pytest matrix.

Importing this package imports nothing heavy; the pytest plugin is `pytest_modelops.plugin`.
"""
