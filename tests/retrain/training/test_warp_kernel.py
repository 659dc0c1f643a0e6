"""Compiled passes of WARP."""

from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from retrain.training import warp_kernel
from retrain.training.warp_kernel import Examples, Learner, Likes, Side, learn

USERS, VIDEOS, FACTORS = 400, 60, 8
GROUPS: Final = 4
"""Users like what is of their group."""


def learner(*, seed: int = 0, users: int = USERS, videos: int = VIDEOS) -> Learner:
    random = np.random.default_rng(seed)

    def side(rows: int) -> Side:
        start = ((random.random((rows, FACTORS)) - 0.5) / FACTORS).astype(np.float32)
        ones = np.ones(rows, np.float32)
        return Side(start, np.ones_like(start), 0 * ones, ones)

    return Learner(side(users), side(videos), np.float32(0.05))


def of_groups() -> tuple[Examples, Likes]:
    """Return what users like: each all videos of a group but those to be judged by."""
    users, videos = np.nonzero(np.arange(USERS)[:, None] % GROUPS == np.arange(VIDEOS) % GROUPS)
    known = (users + videos) % 5 > 0
    rows: NDArray[np.int32] = users[known].astype(np.int32)
    columns: NDArray[np.int32] = videos[known].astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=USERS)))).astype(np.int32)
    return Examples(rows, columns, np.ones(len(rows), np.float32)), Likes(offsets, columns)


def passes(found: Learner, *, count: int = 10, threads: int = 1, seed: int = 0) -> None:
    examples, likes = of_groups()
    random = np.random.RandomState(seed)
    for _ in range(count):
        learn(found, examples, likes, most_drawn=10, random=random, threads=threads)


def share_of_the_group(found: Learner) -> float:
    """Return how much of the first places is of the user's group."""
    scores = found.users.embeddings @ found.videos.embeddings.T + found.videos.biases
    best = np.argsort(-scores, axis=1)[:, : VIDEOS // GROUPS]
    return float((best % GROUPS == np.arange(USERS)[:, None] % GROUPS).mean())


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_tastes_are_learnt_on_any_number_of_threads(threads: int) -> None:
    found = learner()
    assert share_of_the_group(found) < 0.5
    passes(found, threads=threads)
    assert share_of_the_group(found) > 0.95


@pytest.mark.parametrize("threads", [1, 3, 500])
def test_every_example_has_its_step(threads: int) -> None:
    """Each user likes a video of their own, which no step has raised before: something drawn scores too high."""
    found, each = learner(videos=USERS), np.arange(USERS, dtype=np.int32)
    likes = Likes(np.arange(USERS + 1, dtype=np.int32), each)
    examples = Examples(each, each, np.ones(USERS, np.float32))
    learn(found, examples, likes, most_drawn=10, random=np.random.RandomState(1), threads=threads)
    assert (found.users.bias_gradients > 1).all()
    assert (found.videos.bias_gradients > 1).all()


def test_no_examples_change_nothing() -> None:
    found, before = learner(), learner()
    nothing: NDArray[np.int32] = np.empty(0, np.int32)
    random = np.random.RandomState(1)
    learn(
        found,
        Examples(nothing, nothing, nothing.astype(np.float32)),
        of_groups()[1],
        most_drawn=10,
        random=random,
        threads=2,
    )
    for side in ("users", "videos"):
        for array, start in zip(getattr(found, side), getattr(before, side), strict=True):
            np.testing.assert_array_equal(array, start)


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    examples, likes = of_groups()
    short = examples._replace(weights=examples.weights[:3])
    random = np.random.RandomState(1)
    with pytest.raises(IndexError):
        learn(learner(), short, likes, most_drawn=10, random=random, threads=2)


def test_what_is_loaded_ahead_is_what_passes_run() -> None:
    warp_kernel.load()
    passes(learner(), count=1)
    assert len(warp_kernel._learn.signatures) == 1  # type: ignore[attr-defined]
