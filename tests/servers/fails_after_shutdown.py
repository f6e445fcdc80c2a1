"""Answers everything, and then does not end well, as a native library that crashes at exit makes it."""

import os

from answering import answer, read

while True:
    request = read()
    answer(request)
    if request["method"] == "shutdown":
        os._exit(3)
