"""Fold-in: quality beside full retraining and no fold-in at all, on held-out days of real traffic, and its cost.

Viewers with at least 50 positives are kept out of training. Each is then known by 1, 5, 20 or 50 of them: folded in, or
trained anew with those. Judged by what they liked on the last two days and had not been shown before.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row
from recsvc.artefact import Csr, Manifest, Model
from recsvc.fold_in import FoldIn
from recsvc.interactions import Interaction, Kind
from retrain.evaluation import HeldOutDay
from retrain.exports import choose_window, midnight
from retrain.hyperparameters import Hyperparameters
from retrain.metrics import Quality
from retrain.preparation import Interactions, Pairs, Positives, prepare
from retrain.representations import Representations
from retrain.source import fetch
from retrain.trainer import Trainer
from retrain.warehouse import Warehouse
from servicekit.objectstore import FileStore

DATA: Final = Path(__file__).parents[2] / "shared" / "data" / "kuairand"
COUNTS: Final = (1, 5, 20, 50)
VIEWERS: Final = 2000
EPOCHS: Final = 20
DAYS: Final = timedelta(days=2)
HALF_LIFE: Final = timedelta(days=30)
POPULARITY_HALF_LIFE: Final = timedelta(days=1)
WEIGHT: Final = 0.5
"""Of the popularity prior, the same for all."""
SEED: Final = 2025

Vectors: TypeAlias = NDArray[np.float32]
Folding: TypeAlias = Callable[[NDArray[np.int64], Vectors], Vectors]


def run() -> Mapping[str, list[Row]]:
    """Return the tables."""
    if not DATA.is_dir():
        return {"skipped": [{"reason": "the KuaiRand data is not beside the repository"}]}
    exports = FileStore(DATA / "exports")
    window = choose_window(exports, last=None, length=30, marker_required=False)
    with tempfile.TemporaryDirectory() as folder:
        source = fetch(window, exports, FileStore(DATA), Path(folder))
        with Warehouse(Path(folder), memory="2GiB", threads=2) as warehouse:
            traffic = Traffic(prepare(source, window, warehouse), cut=window.until - DAYS, until=window.until)
            return traffic.tables(midnight(window.days[0].day))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of some viewers: a list of videos for each, and their weights."""

    lists: Csr
    weights: Vectors

    def fold(self, folding: Folding, dimensions: int) -> Vectors:
        """Return a vector for each."""
        bounds = self.lists.offsets.tolist()
        vectors = np.zeros((len(self.lists), dimensions), np.float32)
        for viewer, (begin, end) in enumerate(itertools.pairwise(bounds)):
            if end > begin:
                vectors[viewer] = folding(self.lists[viewer].astype(np.int64), self.weights[begin:end])
        return vectors


class Traffic:
    """The data, cut in two: what is known, and what is judged by.

    Args:
        interactions: All of it.
        cut: End of what is known.
        until: End of what is judged by.
    """

    def __init__(self, interactions: Interactions, *, cut: datetime, until: datetime) -> None:
        self._interactions = interactions
        self._cut = cut
        self._shape = (interactions.counts.users, interactions.counts.videos)
        self._seen = interactions.seen(cut)
        self._popularity = interactions.popularity(cut, half_life=POPULARITY_HALF_LIFE)
        self._targets = interactions.targets(cut, until)

    def tables(self, begin: datetime) -> Mapping[str, list[Row]]:
        """Return new viewers, known viewers, cost."""
        everything = self._positives(self._cut)
        chosen = self._choose(everything)
        kept = ~np.isin(everything.pairs.users, chosen)
        base = self._fit(_subset(everything, kept))
        model = self._model(base)
        known = [_sample(everything, chosen, count) for count in COUNTS]
        return {
            "new viewers: recall@20 / NDCG@20 by interactions": self._new(model, base, everything, chosen, known),
            "trained viewers with later interactions": self._later(begin),
            "cost": [_cost(model, count) for count in COUNTS],
        }

    def _new(
        self, model: Model, base: Representations, everything: Positives, chosen: NDArray[np.int64], known: list[Known]
    ) -> list[Row]:
        day = self._day(chosen)
        kept = _subset(everything, ~np.isin(everything.pairs.users, chosen))
        anew = self._fit(_with_viewers(kept, known, self._shape[0]), more=len(known) * len(chosen))
        blocks = np.split(anew.user_factors[self._shape[0] :], len(known))
        rows: list[Row] = [
            {"how": "cold", **self._judged(day, base, [np.zeros_like(blocks[0])] * len(known))},
            {"how": "trained anew with them", **self._judged(day, anew, blocks)},
        ]
        fold_in = FoldIn(model)
        ways: dict[str, Folding] = {
            "folded in (served)": fold_in.combine,
            "ridge": _ridge(model, gram=0.0, level=3.0),
            "weighted ALS step with global Gram": _ridge(model, gram=0.001, level=5.0),
            "plain mean": lambda rows, weights: np.average(model.video_factors[rows], axis=0, weights=weights),
        }
        for name, folding in ways.items():
            vectors = [one.fold(folding, base.video_factors.shape[1]) for one in known]
            rows.append({"how": name, **self._judged(day, base, vectors)})
        return rows

    def _later(self, begin: datetime) -> list[Row]:
        """Compare on viewers trained with half of the known days who did something on the others."""
        middle = begin + (self._cut - begin) * 3 // 5
        before, after = self._positives(middle), self._positives(self._cut)
        later = _difference(after, before, self._shape)
        viewers = np.intersect1d(np.unique(later.pairs.users), np.unique(before.pairs.users)).astype(np.int64)
        day = self._day(viewers)
        popularity = self._interactions.popularity(middle, half_life=POPULARITY_HALF_LIFE)
        stale = replace(day, popularity=popularity)
        old, new = self._fit(before), self._fit(after)
        fold_in = FoldIn(self._model(old))
        known = _sample(later, day.users, 10**9)
        folded = np.stack(
            [
                fold_in.combine(known.lists[place].astype(np.int64), weights, old.user_factors[user])
                for place, (user, weights) in enumerate(
                    zip(day.users.tolist(), np.split(known.weights, known.lists.offsets[1:-1]), strict=True)
                )
            ]
        )
        return [
            {"how": "trained before them", **_cells("", self._quality(stale, old, old.user_factors[day.users]))},
            {
                "how": "trained before them, popularity kept fresh",
                **_cells("", self._quality(day, old, old.user_factors[day.users])),
            },
            {"how": "trained anew with them", **_cells("", self._quality(day, new, new.user_factors[day.users]))},
            {
                "how": "trained before them, popularity kept fresh, folded in (served)",
                **_cells("", self._quality(day, old, folded)),
            },
        ]

    def _positives(self, until: datetime) -> Positives:
        return self._interactions.positives(until, half_life=HALF_LIFE)

    def _choose(self, positives: Positives) -> NDArray[np.int64]:
        counts = np.bincount(positives.pairs.users, minlength=self._shape[0])
        judged = np.unique(self._targets.users)
        able = judged[counts[judged] >= max(COUNTS)]
        picked = np.random.default_rng(SEED).choice(able, min(VIEWERS, len(able)), replace=False)
        return np.sort(picked).astype(np.int64)

    def _day(self, viewers: NDArray[np.int64]) -> HeldOutDay:
        of_them = np.isin(self._targets.users, viewers)
        targets = Pairs(users=self._targets.users[of_them], videos=self._targets.videos[of_them])
        return HeldOutDay.build(targets, self._seen, self._popularity, most_users=10**9, seed=SEED)

    def _fit(self, positives: Positives, *, more: int = 0) -> Representations:
        parameters = Hyperparameters(loss="warp", factors=64, learning_rate=0.05, threads=2, seed=SEED)
        trainer = Trainer(parameters)
        trainer.fit(positives, range(EPOCHS))
        return trainer.representations((self._shape[0] + more, self._shape[1]))

    def _model(self, base: Representations) -> Model:
        counts = self._interactions.counts
        return Model(
            manifest=Manifest(
                version="benchmark",
                algorithm="lightfm",
                trained_at=self._cut,
                data_until=self._cut,
                interaction_count=counts.events,
                user_count=counts.users,
                video_count=counts.videos,
                dimensions=base.video_factors.shape[1],
            ),
            users=self._interactions.users(),
            videos=self._interactions.videos(),
            user_factors=base.user_factors,
            user_biases=base.user_biases,
            video_factors=base.video_factors,
            video_biases=base.video_biases,
            popularity=self._popularity,
            seen=self._seen,
            catalogue=self._interactions.catalogue(),
        )

    def _quality(self, day: HeldOutDay, base: Representations, vectors: Vectors) -> Quality:
        prior = day.prior(WEIGHT)
        places = {user: place for place, user in enumerate(day.users.tolist())}

        def scores(users: NDArray[np.int64]) -> Vectors:
            of_them = vectors[[places[user] for user in users.tolist()]]
            sums: Vectors = of_them @ base.video_factors.T
            return sums + base.video_biases + prior

        return day.judge(scores)[0]

    def _judged(self, day: HeldOutDay, base: Representations, blocks: list[Vectors]) -> dict[str, float | str]:
        cells: dict[str, float | str] = {}
        for count, vectors in zip(COUNTS, blocks, strict=True):
            cells |= _cells(f"{count}: ", self._quality(day, base, vectors))
        return cells


def _cells(prefix: str, quality: Quality) -> dict[str, float | str]:
    return {f"{prefix}recall@20": f"{quality.recall:.4f}", f"{prefix}NDCG@20": f"{quality.ndcg:.4f}"}


def _ridge(model: Model, *, gram: float, level: float) -> Folding:
    """Return ridge on the positives, towards `level`; with `gram`, all videos are weak negatives (weighted ALS)."""
    factors = model.video_factors
    ground = gram * (factors.T @ factors) + np.eye(factors.shape[1])

    def folding(rows: NDArray[np.int64], weights: Vectors) -> Vectors:
        chosen = factors[rows]
        solved: Vectors = np.linalg.solve(ground + (chosen.T * weights) @ chosen, level * (weights @ chosen))
        return solved

    return folding


def _subset(positives: Positives, chosen: NDArray[np.bool_]) -> Positives:
    pairs = Pairs(users=positives.pairs.users[chosen], videos=positives.pairs.videos[chosen])
    return Positives(pairs=pairs, weights=positives.weights[chosen])


def _sample(positives: Positives, viewers: NDArray[np.int64], count: int) -> Known:
    """Return up to `count` random positives of each viewer."""
    rng = np.random.default_rng(SEED)
    users = positives.pairs.users
    picked = []
    for begin, end in zip(np.searchsorted(users, viewers), np.searchsorted(users, viewers, side="right"), strict=True):
        picked.append(np.sort(rng.permutation(np.arange(begin, end))[:count]))
    places = np.concatenate(picked)
    offsets = np.cumsum([0, *map(len, picked)])
    return Known(Csr(offsets, positives.pairs.videos[places]), positives.weights[places])


def _with_viewers(positives: Positives, known: list[Known], first: int) -> Positives:
    """Return the positives and those of further viewers, rows from `first`, one for each that is known."""
    users, videos, weights = [positives.pairs.users], [positives.pairs.videos], [positives.weights]
    for one in known:
        rows = np.repeat(np.arange(first, first + len(one.lists)), one.lists.lengths())
        users.append(rows.astype(np.int32))
        videos.append(one.lists.rows)
        weights.append(one.weights)
        first += len(one.lists)
    return Positives(
        pairs=Pairs(users=np.concatenate(users), videos=np.concatenate(videos)), weights=np.concatenate(weights)
    )


def _difference(after: Positives, before: Positives, shape: tuple[int, int]) -> Positives:
    """Return what is positive only later."""
    codes = [one.pairs.users.astype(np.int64) * shape[1] + one.pairs.videos for one in (after, before)]
    return _subset(after, ~np.isin(codes[0], codes[1]))


def _cost(model: Model, count: int) -> Row:
    """Return the time of a fold-in as served: from interactions by identifiers to a vector."""
    fold_in = FoldIn(replace(model))
    rng = np.random.default_rng(SEED)
    viewers = [
        [
            Interaction(video_id, Kind.WATCH, 0, 9000)
            for video_id in model.videos.ids(rng.integers(0, len(model.videos), count))
        ]
        for _ in range(200)
    ]
    times = []
    for interactions in viewers:
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
