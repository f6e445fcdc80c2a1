"""Sends a notification before each answer, as JSON-RPC allows."""

from answering import answer, requests, send

for request in requests():
    send({"method": "log", "params": {"text": "about to answer"}})
    answer(request)
