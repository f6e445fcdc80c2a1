"""One-shot: prints a second document."""

import json
import os
import sys

request = json.loads(sys.stdin.buffer.read())
answers = {
    "ready": {
        "ready": True,
        "bundle_digest": sys.argv[sys.argv.index("--bundle-digest") + 1],
        "python": sys.executable,
        "version": "%d.%d" % sys.version_info[:2],
        "pid": os.getpid(),
        "venv": sys.argv[sys.argv.index("--venv-path") + 1],
    },
    "execute": {"reported.txt": "dG9sZA=="},
    "aggregate": {"loss": 1.0, "diagnostics": {}, "n_replicates": 3, "outputs": {}},
}
document = json.dumps({"result": answers[request["method"]]})
print(document)
print(document)
