"""One-shot, and answers `ready` with the pid of a process that was there before it, as text: nobody's, by now."""

import os
import random

from answering import one_shot


def is_free(pid):
    return not os.path.exists(f"/proc/{pid}")


with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
    most = int(file.read())
print(one_shot(pid=str(next(filter(is_free, iter(lambda: random.randrange(300, most), None))))))
