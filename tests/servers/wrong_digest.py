"""Answers for another bundle than the one that it was started for."""

from answering import answer, requests

for request in requests():
    answer(request, **({"bundle_digest": "0" * 64} if request["method"] == "ready" else {}))
