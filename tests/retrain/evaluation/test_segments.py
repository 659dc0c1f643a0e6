"""Quality for parts of the users and of the videos."""

import numpy as np
import pytest

from modelstore.artefact import RowLists
from retrain.evaluation.metrics import quality
from retrain.evaluation.segments import slices

PAGES = np.array([[0, 1], [2, 3], [4, 5]])
USERS = np.array([1, 3, 4])


def csr(lists: list[list[int]]) -> RowLists:
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return RowLists(offsets, np.array([one for each in lists for one in each], np.int32))


def seen_by() -> RowLists:
    """Return what five users had been shown: user 1 nothing, user 3 one video, user 4 twenty."""
    return csr([[6] * 50, [], [], [6], [5, *[6] * 19]])


def test_users_are_told_apart_by_what_they_had_been_shown() -> None:
    relevant = csr([[0], [7], [4, 7]])
    found = {one.name: one for one in slices(PAGES, USERS, relevant, seen_by(), seed=1)}
    assert found["users.new"].users == found["users.light"].users == found["users.regular"].users == 1
    assert found["users.new"].recall.mean == 1.0
    assert found["users.light"].recall.mean == 0.0
    assert found["users.regular"].recall.mean == 0.5


def test_videos_are_told_apart_by_who_had_been_shown_them() -> None:
    """Each user counts only with the relevant videos of the part."""
    relevant = csr([[0, 6], [6], [4, 5]])
    found = {one.name: one for one in slices(PAGES, USERS, relevant, seen_by(), seed=1)}
    assert (found["videos.unseen"].users, found["videos.unseen"].recall.mean) == (2, 1.0)
    assert (found["videos.rare"].users, found["videos.rare"].recall.mean) == (1, 1.0)
    assert (found["videos.known"].users, found["videos.known"].recall.mean) == (2, 0.0)


def test_all_is_the_quality_of_all_with_its_interval() -> None:
    random = np.random.default_rng(5)
    pages = np.stack([random.permutation(40)[:20] for _ in range(60)])
    relevant = csr([sorted(random.choice(40, 3, replace=False).tolist()) for _ in range(60)])
    whole = quality(pages, relevant, np.ones(40, np.float32))
    every = slices(pages, np.zeros(60, np.int64), relevant, csr([[]]), seed=1)[0]
    assert (every.name, every.users) == ("all", 60)
    assert every.recall.mean == pytest.approx(whole.recall)
    assert every.ndcg.mean == pytest.approx(whole.ndcg)
    assert every.ndcg.low < every.ndcg.mean < every.ndcg.high


def test_parts_without_users_are_left_out() -> None:
    names = [one.name for one in slices(PAGES, USERS, csr([[0], [0], [0]]), csr([[]] * 5), seed=1)]
    assert names == ["all", "users.new", "videos.unseen"]
