"""Answers what nobody has asked, with odd ids, before each right answer."""

from answering import answer, requests, send

for request in requests():
    for other in (request["id"] + 1000, str(request["id"]), None, [request["id"]], {"id": 1}):
        send({"id": other, "result": "of something else"})
    answer(request)
