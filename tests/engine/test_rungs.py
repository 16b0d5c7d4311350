from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_engine.objective import Score
from hpo_engine.rung import Entry, Rung
from hpo_engine.rungs import bracket_weights, levels, quota
from hpo_engine.schedulers.brackets import Brackets


@pytest.mark.parametrize(
    ("low", "high", "eta", "expected"),
    [
        (1, 27, 3, (1, 3, 9, 27)),
        (1, 50, 3, (1, 3, 9, 27, 50)),
        (1, 52, 3, (1, 3, 9, 27, 52)),
        (1, 81, 3, (1, 3, 9, 27, 81)),
        (1, 82, 3, (1, 3, 9, 27, 81, 82)),
        (1, 200, 3, (1, 3, 9, 27, 81, 200)),
        (2, 50, 3, (2, 6, 18, 50)),
        (5, 200, 4, (5, 20, 80, 200)),
        (1, 16, 2, (1, 2, 4, 8, 16)),
        (1, 2, 3, (1, 2)),
        (3, 3, 3, (3,)),
        (1, 1, 2, (1,)),
        (1, 10, 100, (1, 10)),
    ],
)
def test_levels(low: int, high: int, eta: int, expected: tuple[int, ...]) -> None:
    assert levels(low, high, eta) == expected


@given(st.integers(1, 50), st.integers(0, 10_000), st.integers(2, 10))
def test_levels_are_what_the_study_file_says(low: int, more: int, eta: int) -> None:
    high = low + more
    assert list(levels(low, high, eta)) == [low * eta**k for k in range(20) if low * eta**k < high] + [high]


@pytest.mark.parametrize(("low", "high", "eta"), [(0, 9, 3), (-1, 9, 3), (10, 9, 3), (1, 9, 1), (1, 9, 0)])
def test_levels_that_cannot_be_are_refused(low: int, high: int, eta: int) -> None:
    with pytest.raises(ValueError, match=rf"min={low}, max={high}, eta={eta}"):
        levels(low, high, eta)


@pytest.mark.parametrize(
    ("eta", "expected"),
    [
        (3, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]),
        (2, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (4, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]),
    ],
)
def test_quota_is_rounded_down(eta: int, expected: list[int]) -> None:
    assert [quota(count, eta) for count in range(10)] == expected


# (K+1)/(K-s+1) * eta^(K-s), by hand. K = 3, eta = 3: 4/4*27, 4/3*9, 4/2*3, 4/1*1 = 27, 12, 6, 4, together 49.
@pytest.mark.parametrize(
    ("rungs", "brackets", "eta", "parts"),
    [
        (4, 1, 3, [1]),
        (4, 2, 3, [27, 12]),
        (4, 3, 3, [27, 12, 6]),
        (4, 4, 3, [27, 12, 6, 4]),
        (5, 5, 3, [81, Fraction(5 * 27, 4), 15, Fraction(5 * 3, 2), 5]),
        (3, 3, 2, [4, 3, 3]),
        (1, 1, 3, [1]),
    ],
)
def test_bracket_weights(rungs: int, brackets: int, eta: int, parts: list[Fraction]) -> None:
    assert bracket_weights(rungs, brackets, eta) == pytest.approx(
        [float(part / sum(parts)) for part in parts]
    )


@pytest.mark.parametrize("count", [0, -1, 5, 100])
def test_a_count_of_brackets_that_cannot_be_is_refused_at_once(count: int) -> None:
    with pytest.raises(ValueError, match=rf"brackets is {count}; with 4 rungs it may be 1 to 4"):
        Brackets((1, 3, 9, 27), 3, count)


def test_brackets_are_drawn_by_their_weights() -> None:
    rng, brackets = np.random.default_rng(7), Brackets((1, 3, 9, 27), 3, 4)
    drawn = np.bincount([brackets.draw(rng) for _ in range(4900)], minlength=4)
    assert np.abs(drawn - [2700, 1200, 600, 400]).max() < 120  # 3.5 standard deviations of the largest
    assert {Brackets((1, 3, 9, 27), 3, 1).draw(rng) for _ in range(50)} == {0}


# -- one rung ----------------------------------------------------------------------------------------

losses = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=12)


@given(losses, st.sets(st.integers(0, 11)))
def test_ranks_and_the_candidate_against_sorting(found: list[float], gone: set[int]) -> None:
    rung = Rung()
    entries = [Entry(Score(False, 0.0, loss), trial) for trial, loss in enumerate(found)]
    for entry in entries:
        rung.add(entry)
        rung.wait(entry)
    for entry in entries:
        if entry.trial in gone:
            rung.leave(entry)
            rung.leave(entry)  # gone is gone
    order = sorted(range(len(found)), key=lambda trial: (found[trial], trial))
    assert [rung.rank(entries[trial]) for trial in order] == list(range(1, len(found) + 1))
    assert len(rung) == len(found), "who has left still counts"
    waiting = [trial for trial in order if trial not in gone]
    assert (rung.candidate and rung.candidate.trial) == (waiting[0] if waiting else None)
