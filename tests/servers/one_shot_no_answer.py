"""One-shot: its document is neither a result nor an error."""

from answering import one_shot

one_shot()
print('{"ready": true}')
