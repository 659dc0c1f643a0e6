"""LightFM in training."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from lightfm import LightFM

from retrain.data.prepare import Pairs, Positives
from retrain.embeddings import COLD_BIAS_QUANTILE, Embeddings
from retrain.errors import Reason, RunError
from retrain.hyperparameters import Hyperparameters
from retrain.training.lightfm_trainer import LEARNT, OPENMP, Trainer
from tests.retrain.support.trainers import PARAMETERS, USERS, VIDEOS, positives, trained


def test_one_thread_gives_the_same_bits_each_time() -> None:
    first = trained(positives(), positives(seed=1)).representations((USERS, VIDEOS))
    second = trained(positives(), positives(seed=1)).representations((USERS, VIDEOS))
    for part in ("user_factors", "user_biases", "video_factors", "video_biases"):
        assert getattr(first, part).tobytes() == getattr(second, part).tobytes()


def lightfm_itself(parameters: Hyperparameters) -> LightFM:
    return LightFM(
        no_components=parameters.factors,
        loss=parameters.loss,
        learning_rate=parameters.learning_rate,
        random_state=parameters.seed,
    )


def lightfm_pass(itself: LightFM, some: Positives) -> None:
    place = (some.pairs.users, some.pairs.videos)
    liked = sp.coo_matrix((np.ones(len(some), np.float32), place), (USERS, VIDEOS))
    itself.fit_partial(liked, sample_weight=sp.coo_matrix((some.weights, place), liked.shape))


@pytest.mark.parametrize("seed", range(5))
def test_passes_of_warp_are_those_of_lightfm(seed: int) -> None:
    """The same steps with the same random numbers, pass by pass from where LightFM's own has led: only sums differ."""
    parameters = replace(PARAMETERS, factors=5 + 7 * seed, learning_rate=0.02 * (seed + 1), seed=seed)
    some, trainer, itself = positives(seed=seed), Trainer(parameters), lightfm_itself(parameters)
    for _ in range(10):
        trainer.fit(some, range(1))
        lightfm_pass(itself, some)
        for name in LEARNT:
            found = getattr(trainer.model, name)
            np.testing.assert_allclose(found, getattr(itself, name), rtol=1e-5, atol=1e-6, err_msg=name)
            found[:] = getattr(itself, name)
        assert trainer.model.random_state.randint(2**31) == itself.random_state.randint(2**31)
    assert np.ptp(itself.user_biases) > 0.1


def test_passes_of_bpr_are_lightfms_own() -> None:
    """The trainer hands LightFM the lookup that LightFM would make before each pass."""
    parameters = replace(PARAMETERS, loss="bpr")
    some, trainer, itself = positives(), Trainer(parameters), lightfm_itself(parameters)
    trainer.fit(some, range(3))
    for _ in range(3):
        lightfm_pass(itself, some)
    assert all(getattr(trainer.model, name).tobytes() == getattr(itself, name).tobytes() for name in LEARNT)


def test_what_a_pass_leaves_out_is_not_drawn_as_a_negative() -> None:
    """Of everything liked, one pair is learnt from: all other videos are liked as well, so none is pushed down."""
    pairs = Pairs(users=np.zeros(VIDEOS, np.int32), videos=np.arange(VIDEOS, dtype=np.int32))
    everything = Positives(pairs=pairs, weights=np.ones(VIDEOS, np.float32))
    trainer = trained(everything)
    before = trainer.model.item_embeddings.copy()
    trainer.fit(everything, range(50), fresh=np.arange(VIDEOS) == 0)
    np.testing.assert_array_equal(trainer.model.item_embeddings, before)


def test_some_of_what_is_not_new_is_replayed() -> None:
    """Beside the first user's, each pass learns from a fiftieth of all: from others each time, never from most."""
    some = positives()
    trainer, changed = trained(some), []
    for _ in range(3):
        before = trainer.model.user_embeddings.copy()
        trainer.fit(some, range(1), fresh=some.pairs.users == 0, replayed=0.02)
        changed.append(set(np.flatnonzero((trainer.model.user_embeddings != before).any(axis=1)).tolist()))
    assert all(0 in one and 1 < len(one) < USERS / 2 for one in changed)
    assert changed[0] != changed[1] != changed[2]


def test_passes_over_nothing_change_nothing() -> None:
    """A night may add nothing that anybody liked."""
    trainer = trained(positives())
    before = {name: array.copy() for name, array in trainer.state().arrays.items()}
    trainer.fit(positives(), range(3), fresh=np.zeros(len(positives()), np.bool_))
    for name, array in trainer.state().arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_scores_equal_the_prediction_of_lightfm() -> None:
    trainer = trained(positives())
    users, videos = np.repeat(np.arange(USERS), VIDEOS), np.tile(np.arange(VIDEOS), USERS)
    predicted = trainer.model.predict(users, videos).reshape(USERS, VIDEOS)
    scores = trainer.representations((USERS, VIDEOS)).scores(np.arange(USERS))
    np.testing.assert_allclose(scores, predicted, rtol=1e-5, atol=1e-6)


def test_untrained_users_have_no_factors_and_untrained_videos_a_low_bias() -> None:
    trainer = trained(positives(users=range(5, USERS), videos=range(10, VIDEOS)))
    found = trainer.representations((USERS + 2, VIDEOS + 3))
    assert not found.user_factors[[0, 4, USERS, USERS + 1]].any()
    assert not found.user_biases[[0, 4, USERS, USERS + 1]].any()
    assert not found.video_factors[[0, 9, VIDEOS, VIDEOS + 2]].any()
    low = np.quantile(trainer.model.item_biases, COLD_BIAS_QUANTILE)
    np.testing.assert_allclose(found.video_biases[[0, 9, VIDEOS, VIDEOS + 2]], low, rtol=1e-6)
    assert found.user_factors[5:USERS].any(axis=1).all()
    assert not found.problem()


def test_growing_keeps_what_was_learnt_and_adds_what_is_new() -> None:
    trainer = trained(positives(users=range(2, 20), videos=range(3, 25)))
    before = trainer.representations((USERS, VIDEOS))
    trainer.fit(positives(), range(0))
    after = trainer.representations((USERS, VIDEOS))
    np.testing.assert_array_equal(after.user_factors[2:20], before.user_factors[2:20])
    np.testing.assert_array_equal(after.video_factors[3:25], before.video_factors[3:25])
    np.testing.assert_array_equal(after.video_biases[3:25], before.video_biases[3:25])
    assert after.user_factors[20:].any(axis=1).all()
    assert np.abs(after.user_factors[20:]).max() <= 0.5 / PARAMETERS.factors
    assert trainer.model.item_embedding_gradients[30:].tolist() == np.ones((10, PARAMETERS.factors)).tolist()
    assert trainer.model.item_embedding_gradients[3:25].max() > 1


def test_shrinking_drops_what_has_no_positive_any_more() -> None:
    trainer = trained(positives(), positives(users=range(10), videos=range(10)))
    assert trainer.model.user_embeddings.shape == (10, PARAMETERS.factors)
    assert not trainer.representations((USERS, VIDEOS)).video_factors[10:].any()


def test_diverging_numbers_end_the_run() -> None:
    bad = positives()
    bad.weights[0] = np.nan
    with pytest.raises(RunError, match="diverged") as caught:
        trained(bad)
    assert caught.value.reason is Reason.TRAINING


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # LightFM adds them up
def test_steps_that_diverge_end_the_run() -> None:
    """What is compiled must let numbers that are none show."""
    trainer = Trainer(replace(PARAMETERS, learning_rate=1e38))
    with pytest.raises(RunError, match="diverged"):
        trainer.fit(positives(), range(3))


@pytest.mark.parametrize(
    ("part", "value", "problem"), [("video_biases", np.inf, "not finite"), ("user_factors", np.nan, "not finite")]
)
def test_numbers_that_are_not_finite_are_a_problem(part: str, value: float, problem: str) -> None:
    found = trained(positives()).representations((USERS, VIDEOS))
    getattr(found, part).flat[1] = value
    assert problem in found.problem()


def test_collapsed_factors_are_a_problem() -> None:
    zeros = np.zeros((3, 2), np.float32)
    flat = Embeddings(user_factors=zeros, user_biases=zeros[:, 0], video_factors=zeros, video_biases=zeros[:, 0])
    assert "collapsed" in flat.problem()


def test_lightfm_without_openmp_is_refused_where_it_makes_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, OPENMP)
    Trainer(PARAMETERS)
    with pytest.raises(RunError, match="OpenMP"):
        Trainer(replace(PARAMETERS, loss="bpr"))


@pytest.mark.process
def test_nothing_but_the_trainer_imports_lightfm() -> None:
    """A server process, and even the command line's help, must come up without LightFM."""
    code = "import sys, retrain.__main__, modelstore.artefact; sys.exit('lightfm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
