"""Reads and writes one JSON-RPC message a line, without frames."""

import json
import sys

from answering import result

for line in sys.stdin:
    try:
        request = json.loads(line)
        reply = {"id": request["id"], "result": result(request["method"])}
    except ValueError:
        reply = {"id": None, "error": {"code": -32700, "message": "Parse error"}}
    print(json.dumps({"jsonrpc": "2.0", **reply}), flush=True)
