"""One-shot: prints after its document, on the same line."""

from answering import one_shot

print(one_shot(), "done")
