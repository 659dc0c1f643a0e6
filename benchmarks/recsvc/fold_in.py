"""Measures fold-in on held-out days of real traffic: quality beside full retraining and other ways, and its cost.

Users with at least 50 interactions are kept out of a feed. Each is then known by the last 1, 5, 20 or 50 of them:
folded in as served, or trained anew from a feed that has them. Both models are what a run of `retrain` publishes. They
are judged by what the users watched on the last two days and had not been shown before, with popularity as it was
before these days. The feed to train anew from has each user four times, once for each count, which helps training:
it learns of the videos from 50 interactions also where it ranks for the user with one.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.recsvc.frozen_warp import FrozenVideos
from benchmarks.recsvc.traffic import Told, Traffic
from benchmarks.report import Row
from modelstore.artefact import Model, read
from modelstore.registry import Registry
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import COLD, UserState
from recsvc.model.fold_in import FoldIn, scale_of
from recsvc.model.serving_model import ServingModel
from recsvc.users.folded_user import folded
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.data.prepare import Interactions, Pairs, prepare
from retrain.evaluation.confidence import interval
from retrain.evaluation.held_out_day import PAGE_SIZE, HeldOutDay
from retrain.evaluation.live_model import LiveModel
from retrain.evaluation.metrics import hits, ndcg
from retrain.scheduling.single_run import run_once
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import FileStore, open_store
from servicekit.telemetry.logs import configure_logs

DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "kuairand"
COUNTS: Final = (1, 5, 20, 50)
USERS: Final = 2000
RIDGE_LEVEL: Final = 3.0
ALS_GRAM: Final = 0.001
ALS_LEVEL: Final = 5.0
WARP_EPOCHS: Final = 5
WARP_RATE: Final = 0.05
DAY: Final = timedelta(days=1)
JUDGED: Final = timedelta(days=2)
LATER: Final = timedelta(days=2)
"""Before the judged days: what trained users are folded in with."""
SEED: Final = 2025
SERVED: Final = "folded in (served)"
ANEW: Final = "trained anew"

Vector: TypeAlias = NDArray[np.float32]
Gains: TypeAlias = NDArray[np.float64]
"""NDCG of each user's page."""
Vectors: TypeAlias = Mapping[str, Vector | None]
"""By user; None for one of whom nothing is known."""
Folding: TypeAlias = Callable[[Told], Vectors]


def run() -> Mapping[str, list[Row]]:
    """Return the tables."""
    if not DATA.is_dir():
        return {"skipped": [{"reason": "the KuaiRand data is not beside the repository"}]}
    configure_logs("warning", service="benchmarks")
    with tempfile.TemporaryDirectory(prefix="bench-fold-in-") as name:
        folder, traffic = Path(name), Traffic(DATA)
        judge = _judge(folder)
        told = _told_to_newcomers(traffic, judge)
        copies = {_copy_of(user, count): one[-count:] for user, one in told.items() for count in COUNTS}
        without = traffic.feed(folder / "without", without=[*told], told={})
        full = traffic.feed(folder / "full", without=[*told], told=copies)
        base, anew, before = _trained(without, judge.cut), _trained(full, judge.cut), _trained(full, judge.cut - LATER)
        later = traffic.told(judge.cut, since=before.manifest.data_until)
        return {
            **_newcomers(judge, told, base, anew),
            **_trained_users(judge, later, before, anew),
            "cost": [_cost(base.model, count) for count in COUNTS],
        }


class Judge:
    """Judges pages by what users watched after a cut and had not been shown before it.

    Args:
        interactions: All that they did.
        cut: The instant.
        until: What they did from this instant on does not count.
        settings: How popularity decays.
    """

    def __init__(
        self, interactions: Interactions, *, cut: datetime, until: datetime, settings: RetrainSettings
    ) -> None:
        self.cut = cut
        self._users, self._videos = interactions.users(), interactions.videos()
        self._targets = interactions.targets(cut, until, watched=True)
        self._seen = interactions.seen(cut)
        self._popularity = interactions.popularity(cut, half_life=settings.popularity_half_life())

    def able(self) -> list[str]:
        """Return the users that can be judged."""
        return self._users.ids(np.unique(self._targets.users))

    def gains(self, model: Model, vectors: Vectors) -> Gains:
        """Return the NDCG of the pages for these vectors, of the users that can be judged.

        Args:
            model: What is served, with its own weight of popularity, and popularity as of the cut.
            vectors: Of the users. Gains are in the order of the users' identifiers.
        """
        day = self._day([*vectors])
        served = LiveModel.of(model, self._users, self._videos).representations_of(np.arange(len(self._users)))
        factors = np.zeros((len(self._users), model.manifest.dimensions), np.float32)
        for row, vector in zip(self._users.rows([*vectors]), vectors.values(), strict=True):
            factors[row] = 0 if vector is None else vector
        (pages,) = day.pages(replace(served, user_factors=factors).scores, (model.manifest.popularity_weight,))
        return ndcg(hits(pages, day.relevant), day.relevant.lengths())

    def _day(self, users: Sequence[str]) -> HeldOutDay:
        chosen = np.isin(self._targets.users, self._users.rows(users))
        targets = Pairs(users=self._targets.users[chosen], videos=self._targets.videos[chosen])
        return HeldOutDay.build(targets, self._seen, self._popularity, most_users=10**9, seed=SEED)


def _judge(folder: Path) -> Judge:
    settings = _settings(DATA, folder)
    exports = FileStore(DATA / "exports")
    window = choose_window(exports, last=None, length=settings.retrain_window_days, marker_required=False)
    with DuckDbSession(folder, memory=settings.retrain_memory, threads=settings.retrain_threads) as warehouse:
        interactions = prepare(fetch(window, exports, FileStore(DATA), folder), window, warehouse)
        return Judge(interactions, cut=window.until - JUDGED, until=window.until, settings=settings)


def _settings(feed: Path, folder: Path) -> RetrainSettings:
    return RetrainSettings(
        interactions_url=(feed / "exports").as_uri(),
        catalogue_url=feed.as_uri(),
        model_store_url=(folder / "models").as_uri(),
        retrain_work_dir=folder / "work",
        database_url=None,
        snowflake_account=None,
        dd_agent_host=None,
    )


def _trained(feed: Path, until: datetime) -> ServingModel:
    """Train from nothing on a feed's days up to an instant, and return the model that a run would publish."""
    folder = Path(tempfile.mkdtemp(dir=feed))
    settings = _settings(feed, folder)
    with contextlib.redirect_stdout(io.StringIO()):
        run_once(settings, last=(until - DAY).date(), dry_run=False, again=False, force=True)
    registry = Registry(open_store(settings.model_store_url))
    current = registry.current()
    if current is None:
        raise RuntimeError(f"the run up to {until} published nothing")
    return ServingModel.of(read(registry.fetch(current[0], folder)))


def _told_to_newcomers(traffic: Traffic, judge: Judge) -> Told:
    """Return the last interactions of some users who have enough of them and can be judged."""
    told = traffic.told(judge.cut, most=max(COUNTS))
    able = [user for user in judge.able() if len(told.get(user, ())) == max(COUNTS)]
    chosen = np.random.default_rng(SEED).choice(able, min(USERS, len(able)), replace=False)
    return {user: told[user] for user in sorted(chosen.tolist())}


def _copy_of(user: str, count: int) -> str:
    return f"{user}@{count}"


def _newcomers(judge: Judge, told: Told, base: ServingModel, anew: ServingModel) -> Mapping[str, list[Row]]:
    """Compare the ways for users whom training did not know."""
    gains: dict[str, list[Gains]] = {}
    for count in COUNTS:
        known = {user: interactions[-count:] for user, interactions in told.items()}
        copies = {user: anew.user(_copy_of(user, count)).vector for user in told}
        gains.setdefault(ANEW, []).append(judge.gains(anew.model, copies))
        for how, folding in _ways(base).items():
            gains.setdefault(how, []).append(judge.gains(base.model, folding(known)))
    users = len(gains[SERVED][0])
    return {
        f"newcomers, NDCG@{PAGE_SIZE} by interactions, {users} users": [
            {"how": how, **{str(count): f"{one.mean():.4f}" for count, one in zip(COUNTS, found, strict=True)}}
            for how, found in gains.items()
        ],
        f"{SERVED} less the others (95 %)": [
            {
                "how": how,
                **{
                    str(count): _difference(ours, theirs)
                    for count, ours, theirs in zip(COUNTS, gains[SERVED], found, strict=True)
                },
            }
            for how, found in gains.items()
            if how != SERVED
        ],
    }


def _difference(ours: Gains, theirs: Gains) -> str:
    found = interval(ours - theirs, seed=SEED)
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def _ways(serving: ServingModel) -> Mapping[str, Folding]:
    """Return the ways to compute newcomers' vectors from interactions."""
    factors = serving.model.video_factors
    gram, unit = factors.T @ factors, np.eye(factors.shape[1], dtype=np.float32)

    def alone(solve: Callable[[Vector, Vector], Vector]) -> Folding:
        def folding(told: Told) -> Vectors:
            tastes = {user: serving.fold_in.taste(interactions) for user, interactions in told.items()}
            return {
                user: solve(factors[rows], weights) if len(rows) else None for user, (rows, weights) in tastes.items()
            }

        return folding

    def warp(told: Told) -> Vectors:
        tastes = [serving.fold_in.taste(interactions) for interactions in told.values()]
        videos = FrozenVideos(factors=factors, biases=serving.model.video_biases)
        learnt = videos.learn(tastes, epochs=WARP_EPOCHS, learning_rate=WARP_RATE, seed=SEED)
        return dict(zip(told, learnt, strict=True))

    return {
        "unknown": dict.fromkeys,
        SERVED: lambda told: {user: folded(serving, COLD, (), one).vector for user, one in told.items()},
        "plain mean": alone(lambda chosen, weights: weights @ chosen / np.abs(weights).sum()),
        "ridge": alone(partial(_ridge, ground=unit, level=RIDGE_LEVEL)),
        "weighted ALS step": alone(partial(_ridge, ground=np.float32(ALS_GRAM) * gram + unit, level=ALS_LEVEL)),
        "WARP steps with frozen videos": warp,
    }


def _ridge(chosen: Vector, weights: Vector, *, ground: Vector, level: float) -> Vector:
    """Return the ridge regression's vector: chosen videos score near a level, by weight, others near 0 by `ground`.

    With a share of all videos' Gram matrix in `ground` it is a step of ALS (Hu, Koren, Volinsky, 2008).
    """
    positive = np.maximum(weights, 0)
    solved: Vector = np.linalg.solve(ground + (chosen.T * positive) @ chosen, level * (weights @ chosen))
    return solved


def _trained_users(judge: Judge, later: Told, before: ServingModel, anew: ServingModel) -> Mapping[str, list[Row]]:
    """Compare the ways for users whom training knew and who were active since."""
    bases = {user: before.user(user) for user in later}
    known = {user: base for user, base in bases.items() if base.state is UserState.TRAINED}
    gains = {
        "as trained before": judge.gains(before.model, {user: base.vector for user, base in known.items()}),
        SERVED: judge.gains(
            before.model, {user: folded(before, base, (), later[user]).vector for user, base in known.items()}
        ),
        ANEW: judge.gains(anew.model, {user: anew.user(user).vector for user in known}),
    }
    return {
        f"trained users who did more in {LATER.days} days since, {len(gains[SERVED])} users": [
            {
                "how": how,
                f"NDCG@{PAGE_SIZE}": f"{found.mean():.4f}",
                f"{SERVED} less this (95 %)": "" if how == SERVED else _difference(gains[SERVED], found),
            }
            for how, found in gains.items()
        ]
    }


def _cost(model: Model, count: int) -> Row:
    """Return the time of a fold-in as served: from interactions by identifiers to a vector."""
    fold_in = FoldIn(model, scale_of(model))
    rng = np.random.default_rng(SEED)
    times = []
    for _ in range(200):
        names = model.videos.ids(rng.integers(0, len(model.videos), count))
        interactions = [Interaction(name, InteractionType.WATCH, 0, 9000) for name in names]
        begin = time.perf_counter()
        fold_in.fold(interactions)
        times.append((time.perf_counter() - begin) * 1e3)
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "interactions": count,
        "median ms": f"{p50:.3f}",
        "p99 ms": f"{p99:.3f}",
        "budget ms": 1.0 if count == max(COUNTS) else "",
    }
