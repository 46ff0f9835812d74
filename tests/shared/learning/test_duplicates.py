"""Copies of a sample stand on one side."""

from shared.learning.duplicates import assign_duplicates_to_one_session


def test_copies_stand_with_the_first_and_others_stay() -> None:
    placed, moved = assign_duplicates_to_one_session(["a", "b", "a", "c", "b"], ["1", "1", "2", "2", "1"])
    assert placed == ("1", "1", "1", "2", "1")
    assert moved == 1


def test_without_copies_nothing_moves() -> None:
    assert assign_duplicates_to_one_session(["a", "b"], ["1", "2"]) == (("1", "2"), 0)
