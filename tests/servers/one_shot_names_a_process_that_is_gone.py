"""One-shot, and answers `ready` with the pid of a process that was there before it: nobody's, by now."""

import os

from answering import one_shot


def is_free(pid):
    return not os.path.exists(f"/proc/{pid}")


print(one_shot(pid=next(filter(is_free, range(os.getpid() - 3000 if os.getpid() > 3000 else 2, 1 << 22)))))
