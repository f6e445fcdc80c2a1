"""Writes two megabytes to stderr before each answer, and is otherwise without fault."""

import sys

from answering import answer, requests

for request in requests():
    sys.stderr.write("one more line of a log\n" * 100_000)
    answer(request)
