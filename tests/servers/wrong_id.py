"""Answers each request with an id that nobody asked with, and with no other."""

from answering import read, result, send

while True:
    request = read()
    send({"id": request["id"] + 1000, "result": result(request["method"])})
