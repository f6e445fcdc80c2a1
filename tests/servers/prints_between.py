"""Prints a line to stdout before each answer."""

import sys

from answering import answer, requests

for request in requests():
    sys.stdout.write(f"Loading: {request['method']}\n")
    sys.stdout.flush()
    answer(request)
