"""Has requests of its own, with the ids of those that it was asked, before each answer."""

from answering import answer, requests, send

for request in requests():
    send({"id": request["id"], "method": "workspace/configuration", "params": {}})
    answer(request)
