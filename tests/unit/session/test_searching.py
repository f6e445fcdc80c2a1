"""The search behind `bisect`: what it names is guilty, is as small as can be, and was seen twice on both sides."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_modelops.session.searching import Answer, NoVerdict, Search

GREEN, RED, UNRESOLVED = Answer.GREEN, Answer.RED, Answer.UNRESOLVED
Chosen = frozenset[int]


class Cells:
    """Answers for sets of changes, and remembers what was asked."""

    def __init__(self, answer: Callable[[Chosen], Answer]) -> None:
        self.asked: list[Chosen] = []
        self.seen: dict[Chosen, Counter[Answer]] = {}
        self._answer = answer

    def __call__(self, chosen: Chosen) -> Answer:
        answer = self._answer(chosen)
        self.asked.append(chosen)
        self.seen.setdefault(chosen, Counter())[answer] += 1
        return answer

    def find(self, count: int) -> tuple[int, ...]:
        """Search among so many changes, and assert what has to be true of every verdict."""
        everything = frozenset(range(count))
        self.seen = {frozenset(): Counter([GREEN]), everything: Counter([RED])}
        found = Search(range(count), self).find()
        self.was_seen(frozenset(found), RED)
        self.was_seen(frozenset(), GREEN)
        for one in found:
            rest = frozenset(found) - {one}
            if self.seen[rest] != Counter([UNRESOLVED]):
                self.was_seen(rest, GREEN)
        return found

    def was_seen(self, chosen: Chosen, answer: Answer) -> None:
        assert self.seen[chosen] == Counter({answer: 2}), f"{sorted(chosen)}: {self.seen[chosen]}"


def red_with(*culprits: int) -> Callable[[Chosen], Answer]:
    return lambda chosen: RED if chosen >= {*culprits} else GREEN


def test_one_culprit_among_25_is_found_in_at_most_8_cells() -> None:
    for culprit in range(25):
        cells = Cells(red_with(culprit))
        assert cells.find(25) == (culprit,)
        assert len(cells.asked) <= 8


def test_a_single_change_is_seen_once_more_with_and_without_it() -> None:
    cells = Cells(red_with(0))
    assert cells.find(1) == (0,)
    assert cells.asked == [frozenset(), {0}]


def test_a_pair_that_only_breaks_together_is_found_in_at_most_18_cells() -> None:
    for pair in itertools.combinations(range(25), 2):
        cells = Cells(red_with(*pair))
        assert cells.find(25) == pair
        assert len(cells.asked) <= 18


SETS = st.frozensets(st.integers(0, 11), min_size=1, max_size=3)


@given(culprits=st.lists(SETS, min_size=1, max_size=3))
def test_of_what_stays_red_with_more_changes_a_smallest_set_is_found(culprits: list[Chosen]) -> None:
    cells = Cells(lambda chosen: RED if any(chosen >= one for one in culprits) else GREEN)
    assert frozenset(cells.find(12)) in culprits


@given(culprit=SETS, needs=st.dictionaries(st.integers(0, 11), SETS, max_size=4))
def test_changes_that_cannot_be_installed_without_others_are_named_with_them(
    culprit: Chosen, needs: dict[int, Chosen]
) -> None:
    def can_be_installed(chosen: Chosen) -> bool:
        return all(chosen >= needed for one, needed in needs.items() if one in chosen)

    cells = Cells(lambda chosen: red_with(*culprit)(chosen) if can_be_installed(chosen) else UNRESOLVED)
    wanted = culprit
    while not can_be_installed(wanted):
        wanted = wanted.union(*(needs[one] for one in wanted if one in needs))
    assert frozenset(cells.find(12)) >= wanted


@given(st.data())
def test_whatever_cells_answer_a_verdict_was_seen_twice(data: st.DataObject) -> None:
    known: dict[Chosen, Answer] = {}

    def answer(chosen: Chosen) -> Answer:
        if chosen not in known or data.draw(st.integers(0, 4), label="is flaky now") == 0:
            known[chosen] = data.draw(st.sampled_from(Answer), label=str(sorted(chosen)))
        return known[chosen]

    cells = Cells(answer)
    with contextlib.suppress(NoVerdict):
        cells.find(data.draw(st.integers(1, 7), label="changes"))


@pytest.mark.parametrize(("always", "changes", "expected"), [(GREEN, 6, RED), (RED, 0, GREEN), (UNRESOLVED, 0, GREEN)])
def test_an_end_that_is_not_as_it_was_ends_the_search_early(always: Answer, changes: int, expected: Answer) -> None:
    cells = Cells(lambda _: always)
    with pytest.raises(NoVerdict) as caught:
        cells.find(6)
    assert (len(caught.value.changes), caught.value.expected, caught.value.instead) == (changes, expected, always)
    assert len(cells.asked) <= 6


def test_what_is_red_once_and_then_green_is_not_named() -> None:
    reds = iter([RED])
    cells = Cells(lambda chosen: next(reds, GREEN) if chosen == {0, 1} else red_with(2, 3)(chosen))
    with pytest.raises(NoVerdict) as caught:
        cells.find(5)
    assert caught.value.changes == {0, 1}
