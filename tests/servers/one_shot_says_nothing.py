"""One-shot: ends without a document."""

from answering import one_shot

one_shot()
