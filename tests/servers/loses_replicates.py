"""Says that it aggregated one replicate, however many it was given."""

from answering import answer, requests

for request in requests():
    answer(request)
