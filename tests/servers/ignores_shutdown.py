"""Answers `ready` and work, and nothing ends it but SIGKILL or SIGABRT."""

import signal

from answering import answer, read

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while True:
    request = read()
    if request["method"] != "shutdown":
        answer(request)
