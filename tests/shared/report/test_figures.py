"""The picture of a confusion matrix shows where answers went, for any number and script of labels."""

import io

import numpy as np
import pytest
from PIL import Image

from shared.report.figures import confusion_picture


def _opened(confusion: np.ndarray, labels: list[str], title: str = "ana, gesture: 0.97 across sessions") -> Image.Image:
    return Image.open(io.BytesIO(confusion_picture(confusion, labels, title)))


def test_frequent_answers_are_darker() -> None:
    pale, dark = (_opened(np.array([[20 - wrong, wrong], [0, 20]]), ["yes", "no"]).convert("L") for wrong in (0, 15))
    changed = np.argwhere(np.asarray(pale) != np.asarray(dark))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0) + 1
    assert (bottom - top, right - left) == (44, 88), "the first row's two cells, and nothing else"
    before, after = (np.asarray(p)[top:bottom, left:right].astype(int) for p in (pale, dark))
    assert before[2, 2] < after[2, 2], "fewer right answers are paler"
    assert before[2, -2] > after[2, -2], "more wrong ones darker"


def test_labels_of_every_script_that_the_font_has_are_drawn() -> None:
    one = np.eye(1, dtype=np.int64)
    drawn = {label: _opened(one, [label]).tobytes() for label in ("größer", "да", "ναι", "нет")}
    assert len(set(drawn.values())) == 4
    assert drawn["да"] == _opened(one, ["да"]).tobytes()


@pytest.mark.parametrize("count", [1, 30, 200])
def test_a_picture_of_many_labels_stays_of_a_size(count: int) -> None:
    picture = _opened(np.eye(count, dtype=np.int64) * 3, [f"a rather long label {k}" for k in range(count)])
    assert max(picture.size) < 1700
    assert picture.width >= _opened(np.eye(1, dtype=np.int64), ["a"]).width
