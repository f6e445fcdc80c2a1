"""One-shot: prints before its document."""

from answering import one_shot

document = one_shot()
print("loading the model")
print(document)
