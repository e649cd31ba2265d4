"""Lesions as columns: filters and orders, against the slow obvious way."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_heatmap.formats.lesion_files import LESION_NUMBERS, Lesion
from hpc_heatmap.formats.review_file import Review, Verdict
from hpc_heatmap.runs.reviews import ReviewedLesion
from napari_hpc_heatmap._lesion_list import Column, LesionList

NAN = float("nan")


def lesion(key: str, score: float, area: float, verdict: Verdict, comment: str) -> ReviewedLesion:
    found = Lesion(0, score, score, 10 * area, -area, 1, area, ())
    return ReviewedLesion(key, found, Review(key, verdict, comment, "anna", 1.0))


@pytest.fixture
def lesions() -> LesionList:
    rng = np.random.default_rng(0)
    entries = [
        lesion(str(n), float(s), float(a), list(Verdict)[n % 4], "odd" if n % 2 else "Even")
        for n, (s, a) in enumerate(rng.random((200, 2)).round(1), 1)
    ]
    found = np.array([(n, 0, 0, n, -n, 1, 0) for n in range(1, 201)], LESION_NUMBERS)
    drawn = lesion("drawn-1", NAN, 0.5, Verdict.CONFIRMED, "")
    return LesionList(found, [*entries, drawn], (2.0, 500.0))


def test_what_reviewers_have_not_touched_is_as_the_machine_found_it() -> None:
    found = np.array([(1, 0.9, 1, 4, 5, 1, 7), (2, 0.8, 1, 6, 7, 1, 8)], LESION_NUMBERS)
    lesions = LesionList(found, [lesion("2", 0.8, 3.0, Verdict.UNSURE, "fold")])
    assert lesions.keys == ["1", "2"]
    assert lesions.place_px(0) == (4, 5) and lesions.place_px(1) == (30, -3)
    assert [lesions.verdict(index) for index in range(2)] == [Verdict.UNREVIEWED, Verdict.UNSURE]
    assert (lesions.comments, lesions.who) == (["", "fold"], ["", "anna"])
    assert lesions.areas.tolist() == [7, 3] and lesions.scores.tolist() == [0.9, 0.8]
    # A lesion that was redrawn is still known by where it was found.
    assert lesions.found_at_px(1) == (6, 7)
    assert len(LesionList()) == 0


def test_filters(lesions: LesionList) -> None:
    everything = list(range(len(lesions)))
    assert lesions.rows().tolist() == everything
    confirmed = lesions.rows(verdict=Verdict.CONFIRMED).tolist()
    assert confirmed == [i for i in everything if lesions.verdict(i) is Verdict.CONFIRMED]
    high = lesions.rows(least_score=0.5).tolist()
    assert high == [i for i in everything if not lesions.scores[i] < 0.5]
    assert len(lesions) - 1 in high
    assert lesions.found_at_px(len(lesions) - 1) is None
    assert lesions.rows(text="EVEN").tolist() == list(range(1, 200, 2))
    assert lesions.rows(text="drawn").tolist() == [200]
    # Square micrometres from square pixels of 2 x 500 um, then square millimetres.
    assert lesions.areas[-1] == pytest.approx(0.5 * 1000 / 1e6)
    assert lesions.rows(least_area=lesions.areas[-1], verdict=Verdict.CONFIRMED)[-1] == 200


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    ("column", "values"),
    [(Column.SCORE, "scores"), (Column.AREA, "areas"), (Column.X, "x_px"), (Column.Y, "y_px")],
)
def test_orders(lesions: LesionList, column: Column, values: str, descending: bool) -> None:
    rows = lesions.rows()
    numbers = getattr(lesions, values)
    got = lesions.sort(rows, column, descending=descending).tolist()
    sign = -1 if descending else 1
    blank = [i for i in rows.tolist() if np.isnan(numbers[i])]
    rest = [i for i in rows.tolist() if i not in blank]
    assert got == sorted(rest, key=lambda i: sign * numbers[i]) + blank


def test_reviews_and_comments_are_sorted_too(lesions: LesionList) -> None:
    rows = lesions.rows()
    by_review = [lesions.verdict(i) for i in lesions.sort(rows, Column.REVIEW).tolist()]
    assert by_review[0] is Verdict.UNREVIEWED and by_review[-1] is Verdict.REJECTED
    assert lesions.sort(rows, Column.LESION, descending=True).tolist() == rows.tolist()[::-1]
    by_comment = [lesions.comments[i] for i in lesions.sort(rows, Column.COMMENT).tolist()]
    assert by_comment == sorted(by_comment, key=str.casefold)
    assert lesions.sort(rows[:0], Column.COMMENT).tolist() == []
