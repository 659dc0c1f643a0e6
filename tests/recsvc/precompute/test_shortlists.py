"""Precomputed shortlists answer as the ranking does, also when popularity has moved since."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelstore.artefact import Model, write
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.pages.request_exclusions import RequestExclusions
from recsvc.pages.shortlist_cache import Shortlists
from recsvc.precompute.__main__ import precompute
from recsvc.precompute.background import MIN_VIDEOS, Precomputation
from recsvc.precompute.shortlists import FOLDER, LENGTH, ROWS, SCORES, Precomputed
from recsvc.ranking.exact import Exclusions, Ranked
from tests.recsvc.support.models import csr, random_model
from tests.support.polling import wait_for

VIDEOS = 400
MODEL = random_model(3, users=12, videos=VIDEOS)
SERVING = ServingModel.of(MODEL)


@pytest.fixture(scope="module")
def precomputed(tmp_path_factory: pytest.TempPathFactory) -> Precomputed:
    folder = tmp_path_factory.mktemp("model")
    precompute(MODEL, folder, most=100)
    found = Precomputed.read(folder / FOLDER, MODEL)
    assert found
    return found


def moved(seed: int, share: float, by: float) -> ServingModel:
    """Return the model with another popularity: all decayed, some videos risen, some forgotten."""
    rng = np.random.default_rng(seed)
    popularity = MODEL.popularity * np.float32(rng.choice([1, 0.5]))
    risen = rng.random(VIDEOS) < share
    popularity[risen] += np.float32(by) * rng.integers(1, 4, VIDEOS).astype(np.float32)[risen]
    popularity[rng.random(VIDEOS) < share / 2] = 0
    return SERVING.with_popularity(popularity)


def same(found: Ranked, expected: Ranked) -> None:
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    number=st.integers(0, 11),
    share=st.sampled_from([0.0, 0.01, 0.05, 0.5]),
    by=st.sampled_from([0.1, 3.0, 100.0]),
    count=st.integers(1, LENGTH + 10),
    served=st.integers(0, LENGTH),
)
def test_precomputed_lists_answer_as_the_ranking(  # noqa: PLR0917  # each is drawn
    precomputed: Precomputed, seed: int, number: int, share: float, by: float, count: int, served: int
) -> None:
    """To the last bit and tie, whatever rose, fell, was served before or was seen."""
    serving = moved(seed, share, by) if share else SERVING
    user = serving.user(f"u{number}")
    shortlists = Shortlists()
    shortlists.adopt(precomputed)
    shown = serving.ranker.top(user, served, Exclusions((user.seen,))).rows if served else np.empty(0, np.int64)
    unwanted = RequestExclusions(serving.fingerprints.of_rows[shown])

    found = shortlists.top(serving, f"u{number}", user, count, unwanted)

    same(found, serving.ranker.top(user, count, unwanted.barred(serving.fingerprints, user.seen)))
    assert not set(found.rows.tolist()) & {*user.seen.tolist(), *shown.tolist()}


def test_the_first_pages_need_no_scan(precomputed: Precomputed) -> None:
    """Also when a few videos became popular; of strangers and those of whom more is known, nothing is precomputed."""
    for serving in (SERVING, moved(1, 0.01, 100.0)):
        shortlists = Shortlists()
        shortlists.adopt(precomputed)
        for number in range(12):
            user = serving.user(f"u{number}")
            shortlists.top(serving, f"u{number}", user, 21, RequestExclusions())
            assert precomputed.of(serving, serving.user("nobody")) is None
            assert precomputed.of(serving, user._replace(row=-1)) is None
        assert len(shortlists) <= 2


def test_another_model_is_not_answered_from_them(precomputed: Precomputed) -> None:
    other = ServingModel.of(random_model(4, users=12, videos=VIDEOS))
    user, shortlists = other.user("u1"), Shortlists()
    shortlists.adopt(precomputed)

    same(
        shortlists.top(other, "u1", user, 21, RequestExclusions()), other.ranker.top(user, 21, Exclusions((user.seen,)))
    )


def test_of_too_many_users_those_who_were_shown_most_are_prepared(tmp_path: Path) -> None:
    model = replace(MODEL, seen=csr([list(range(user)) for user in range(12)]))
    precompute(model, tmp_path, most=3)
    found, serving = Precomputed.read(tmp_path / FOLDER, model), ServingModel.of(model)

    assert found
    assert [user for user in range(12) if found.of(serving, serving.user(model.users.ids(np.array([user]))[0]))] == [
        9,
        10,
        11,
    ]


@pytest.mark.parametrize("damage", ["missing", "short", "rows", "type"])
def test_damaged_lists_are_not_served(tmp_path: Path, damage: str) -> None:
    precompute(MODEL, tmp_path, most=100)
    path = tmp_path / FOLDER / ROWS
    rows: NDArray[np.int32] = np.load(path)
    if damage == "missing":
        (tmp_path / FOLDER / SCORES).unlink()
    elif damage == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        np.save(path, rows + VIDEOS if damage == "rows" else rows.astype(np.int64))

    assert Precomputed.read(tmp_path / FOLDER, MODEL) is None


def test_a_process_that_nobody_waits_for_leaves_nothing(tmp_path: Path) -> None:
    precompute(MODEL, tmp_path, most=100, wanted=lambda: False)

    assert Precomputed.read(tmp_path / FOLDER, MODEL) is None


def large(cache: Path, version: str) -> Model:
    """Return a model that is worth preparing for, and leave its copy in the cache."""
    model = random_model(len(version), users=6, videos=MIN_VIDEOS, version=version)
    write(model, cache / version)
    return model


def holds(adopted: list[Precomputed | None], model: Model) -> bool:
    last = adopted[-1] if adopted else None
    return last is not None and last.model is model


@pytest.mark.process
def test_lists_follow_the_live_model(tmp_path: Path) -> None:
    """Each model that goes live gets its lists from a process; until then none are handed over."""
    live, adopted = LiveModel(retry_after_s=1), list[Precomputed | None]()
    precomputation = Precomputation(live, tmp_path, adopted.append, most=100)
    precomputation.start()
    try:
        for version in ("1", "22"):
            model = large(tmp_path, version)
            live.swap(ServingModel.of(model))
            wait_for(partial(holds, adopted, model), what="lists")
    finally:
        precomputation.stop()

    assert [one is None for one in adopted] == [True, False, True, False]
    serving = ServingModel.of(model)
    user = serving.user("u3")
    found = adopted[-1].of(serving, user) if adopted[-1] else None
    assert found
    same(found, serving.ranker.top(user, LENGTH, Exclusions((user.seen,))))


@pytest.mark.process
def test_processes_do_not_do_it_twice(tmp_path: Path) -> None:
    """One that finds another at work waits for its end and keeps what it made."""
    large(tmp_path, "1")
    command = [sys.executable, "-m", "recsvc.precompute.__main__", str(tmp_path / "1"), "100"]
    first = subprocess.Popen(command)
    os.kill(first.pid, signal.SIGSTOP)
    second = subprocess.Popen(command)
    os.kill(first.pid, signal.SIGCONT)

    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert sorted(path.name for path in (tmp_path / "1" / FOLDER).iterdir()) == ["places.npy", "rows.npy", "scores.npy"]
