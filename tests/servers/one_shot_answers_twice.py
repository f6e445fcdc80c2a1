"""One-shot: prints a second document."""

from answering import one_shot

document = one_shot()
print(document)
print(document)
