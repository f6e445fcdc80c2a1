"""The search for the fewest changes that turn green into red, and what has to be seen before they are named.

Knows nothing of cells: a function answers for each set of changes. Halving comes first, since most often one change is
guilty; what halving cannot take apart is then made smaller as in delta debugging
(https://www.debuggingbook.org/html/DeltaDebugger.html).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Answer(enum.Enum):
    """What a set of changes leads to.

    `unresolved`: nothing is known, because these versions cannot be installed together, or something else broke.
    """

    GREEN = "green"
    RED = "red"
    UNRESOLVED = "unresolved"


class NoVerdict(Exception):
    """A set of changes was not answered twice in the same way.

    Attributes:
        changes: that set.
        expected: the answer that was not repeated.
        instead: the other one.
    """

    def __init__(self, changes: frozenset[object], expected: Answer, instead: Answer) -> None:
        super().__init__(f"{len(changes)} changes: {expected.value}, then {instead.value}")
        self.changes = changes
        self.expected = expected
        self.instead = instead


class Search(Generic[T]):
    """Finds the fewest changes; none of them, and all of them, were answered once before: green and red.

    Args:
        changes: in the order in which they are added.
        ask: answers for a set of them; each call may be expensive.
    """

    def __init__(self, changes: Sequence[T], ask: Callable[[frozenset[T]], Answer]) -> None:
        self._changes = tuple(changes)
        self._ask = ask
        self._answers = {frozenset[T](): [Answer.GREEN], frozenset(changes): [Answer.RED]}
        self._saw_red = False

    def find(self) -> tuple[T, ...]:
        """Return changes that together are red twice, while without any one of them it is green twice, or unresolved.

        Without any change it is green twice.

        Raises:
            NoVerdict: an answer was not repeated.
        """
        self._twice(())
        guilty = self._halved()
        while True:
            guilty = self._smaller(guilty)
            self._twice(guilty)
            without = [self._without(guilty, [one]) for one in guilty]
            answers = [self._once(rest) for rest in without]
            for rest, answer in zip(without, answers, strict=True):
                if answer is not Answer.UNRESOLVED:
                    self._twice(rest)
            if Answer.RED not in answers:
                return guilty

    def _halved(self) -> tuple[T, ...]:
        """Return changes that are red together, found by adding the changes in their order up to some point."""
        guilty: tuple[T, ...] = ()
        left = self._changes
        while left and (not guilty or self._once(guilty) is not Answer.RED):
            if guilty and not self._saw_red:
                self._twice(self._changes)  # before much is spent on a red that was never seen here
            low, high = 0, len(left)  # red with the first `high` of them, not with the first `low`
            while (middle := self._between(guilty, left, low, high)) is not None:
                at, answer = middle
                low, high = (low, at) if answer is Answer.RED else (at, high)
            guilty = self._in_order((*guilty, *left[low:high]))
            left = left[:low]
        return guilty

    def _between(self, guilty: Sequence[T], left: Sequence[T], low: int, high: int) -> tuple[int, Answer] | None:
        """Return the point nearest to the middle that is not unresolved, and its answer."""
        for at in sorted(range(low + 1, high), key=lambda point: abs(2 * point - low - high)):
            answer = self._once((*guilty, *left[:at]))
            if answer is not Answer.UNRESOLVED:
                return at, answer
        return None

    def _smaller(self, guilty: tuple[T, ...]) -> tuple[T, ...]:
        """Leave out what it is red without: large parts first, then single changes."""
        size = len(guilty) // 2
        while size:
            at = 0
            while at < len(guilty):
                rest = self._without(guilty, guilty[at : at + size])
                if rest and self._once(rest) is Answer.RED:
                    guilty = rest
                else:
                    at += size
            size //= 2
        return guilty

    def _without(self, changes: Sequence[T], left_out: Collection[T]) -> tuple[T, ...]:
        return tuple(one for one in changes if one not in left_out)

    def _in_order(self, changes: Collection[T]) -> tuple[T, ...]:
        return tuple(one for one in self._changes if one in changes)

    def _once(self, changes: Collection[T]) -> Answer:
        """Return the first answer for these changes."""
        chosen = frozenset(changes)
        answers = self._answers.setdefault(chosen, [])
        if not answers:
            answers.append(self._answer(chosen))
        return answers[0]

    def _twice(self, changes: Collection[T]) -> None:
        """Ask until there are two answers; raise `NoVerdict` if they differ."""
        chosen = frozenset(changes)
        expected = self._once(chosen)
        answers = self._answers[chosen]
        if len(answers) < 2:  # noqa: PLR2004 - twice
            answers.append(self._answer(chosen))
        if answers[1] is not expected:
            raise NoVerdict(frozenset[object](chosen), expected, answers[1])

    def _answer(self, chosen: frozenset[T]) -> Answer:
        answer = self._ask(chosen)
        self._saw_red = self._saw_red or answer is Answer.RED
        return answer
