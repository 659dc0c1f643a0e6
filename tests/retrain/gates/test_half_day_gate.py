"""What is published beside what was judged."""

from dataclasses import replace

import numpy as np
import pytest

from retrain.data.prepare import Pairs
from retrain.embeddings import Embeddings
from retrain.evaluation.held_out_day import HeldOutDay
from retrain.gates.half_day_gate import HalfDayCandidate, agreement, final_problems, judge_trial

USERS, VIDEOS = 200, 120


@pytest.fixture
def learnt() -> Embeddings:
    """Of tastes that are known exactly."""
    rng = np.random.default_rng(2)
    return Embeddings(
        user_factors=rng.normal(size=(USERS, 8)).astype(np.float32),
        user_biases=np.zeros(USERS, np.float32),
        video_factors=rng.normal(size=(VIDEOS, 8)).astype(np.float32),
        video_biases=np.zeros(VIDEOS, np.float32),
    )


def noisy(learnt: Embeddings, noise: float) -> Embeddings:
    shape = learnt.user_factors.shape
    wrong = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    return replace(learnt, user_factors=learnt.user_factors + np.float32(noise) * wrong)


@pytest.fixture
def half(learnt: Embeddings) -> HeldOutDay:
    """On which everyone likes the five videos that suit best."""
    best = np.argsort(-learnt.scores(np.arange(USERS)), axis=1)[:, :5]
    users, videos = np.repeat(np.arange(USERS), 5), np.sort(best, axis=1).ravel()
    nothing = Pairs(users=np.empty(0, np.int32), videos=np.empty(0, np.int32))
    return HeldOutDay.build(
        Pairs(users=users.astype(np.int32), videos=videos.astype(np.int32)),
        nothing.lists(USERS),
        np.ones(VIDEOS, np.float32),
        most_users=USERS,
        seed=0,
    )


def tried(half: HeldOutDay, candidate: Embeddings, live: Embeddings) -> HalfDayCandidate:
    return judge_trial(half, candidate, 0.0, half.pages(live.scores)[0], lift=0.2)


def test_trial_that_is_worse_than_the_live_model_is_refused(half: HeldOutDay, learnt: Embeddings) -> None:
    (problem,) = tried(half, noisy(learnt, 1.0), noisy(learnt, 0.3)).verdict.problems
    assert problem.startswith("worse than the live model by more than 2%")
    assert "on the second half of the last day" in problem
    assert not tried(half, noisy(learnt, 0.3), noisy(learnt, 1.0)).verdict.problems


def test_last_step_must_look_like_the_one_that_was_judged(half: HeldOutDay, learnt: Embeddings) -> None:
    """Pages that get worse on what was learnt from, or that change much more than in the step before, are refused."""
    trial = tried(half, noisy(learnt, 0.3), noisy(learnt, 0.4))
    assert not [*final_problems(trial, noisy(learnt, 0.2))]
    problems = [*final_problems(trial, noisy(learnt, 20.0))]
    assert [problem.partition(" ")[0] for problem in problems] == ["NDCG", "the"]


def test_agreement_is_the_share_of_common_videos() -> None:
    pages = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    assert agreement(pages, pages) == 1
    assert agreement(pages, np.array([[4, 3, 9, 8], [1, 2, 3, 4]])) == pytest.approx(2 / 6)
