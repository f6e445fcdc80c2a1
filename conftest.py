"""For the tests of this repository; the matrix itself needs nothing of it."""

pytest_plugins = ["pytester"]
