"""Measures quality on held-out days of real traffic: each part of the model, beside EASE, ALS and popularity.

Everything is chosen by validation on the two days before the last two (fitted on the days before those), then fitted
anew on all days before the last two and judged on these: videos that a user had not been shown before, a page of 20.
The data ends there, so there are no later days to judge by. `RETRAIN_QUALITY=full` tunes on whole grids and adds rows.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray

from benchmarks.report import Row
from benchmarks.retrain.split import DAYS, THREADS, Split
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.data.prepare import prepare
from retrain.evaluation.confidence import interval
from retrain.evaluation.held_out_day import PAGE_SIZE, HeldOutDay
from retrain.evaluation.metrics import hits, ndcg, quality, recall
from retrain.evaluation.page_ranking import Scores
from retrain.evaluation.segments import slices
from retrain.settings import RetrainSettings
from retrain.training.serving_vectors import served, spread_ratio
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.logs import configure_logs

DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "kuairand"
FULL: Final = os.environ.get("RETRAIN_QUALITY") == "full"
WEIGHTS: Final = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5)
EASE_PENALTIES: Final = (100.0, 300.0, 1000.0) if FULL else (300.0,)
ALS_SETTINGS: Final = (
    [(factors, weight, penalty) for factors in (64, 128) for weight in (5.0, 20.0, 60.0) for penalty in (10.0, 50.0)]
    if FULL
    else [(128, 5.0, 50.0)]
)
"""Factors, confidence of a positive, regularisation."""

Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """A way to rank, with the choices for validation."""

    name: str
    fit: Callable[[Split, Options], Scores]
    options: Sequence[Options] = ({},)
    weights: Sequence[float] = WEIGHTS
    """Of the popularity prior."""


@dataclass(slots=True)
class Chosen:
    """The choices that validation found best."""

    options: Options = field(default_factory=dict)
    weight: float = 0.0
    ndcg: float = -1.0


def run() -> Mapping[str, list[Row]]:
    """Return the tables."""
    if not DATA.is_dir():
        return {"skipped": [{"reason": "the KuaiRand data is not beside the repository"}]}
    configure_logs("warning", service="benchmark")
    exports = FileStore(DATA / "exports")
    window = choose_window(exports, last=None, length=30, marker_required=False)
    with tempfile.TemporaryDirectory() as folder:
        settings = RetrainSettings(
            interactions_url=(DATA / "exports").as_uri(), model_store_url=(Path(folder) / "models").as_uri()
        )
        source = fetch(window, exports, FileStore(DATA), Path(folder))
        with DuckDbSession(Path(folder), memory="2GiB", threads=THREADS) as warehouse:
            interactions = prepare(source, window, warehouse)
            last = Split(interactions, window.until - DAYS, settings)
            return tables(Split(interactions, window.until - 2 * DAYS, settings), last, settings)


def tables(validation: Split, last: Split, settings: RetrainSettings) -> Mapping[str, list[Row]]:
    """Return the quality of each way to rank, then that of the served ranking in parts."""
    watched: list[Row] = []
    liked: list[Row] = []
    parts: list[Row] = []
    for ranking in rankings(settings):
        chosen = choose(ranking, validation)
        scores = ranking.fit(last, chosen.options)
        cells: dict[str, float | str] = {"ranking": ranking.name, "chosen": _told(chosen)}
        watched.append(cells | judged(last.watched, scores, chosen.weight))
        liked.append(cells | judged(last.liked, scores, chosen.weight))
        if ranking.name == SERVED:
            parts = [*_parts(last.watched, scores, chosen.weight)]
    times: list[Row] = [{"fit": name, "seconds": f"{seconds:.1f}"} for name, seconds in last.seconds.items()]
    return {
        f"any watch of the last two days, {len(last.watched.users):,} users": watched,
        f"long watches, likes and the like of the last two days, {len(last.liked.users):,} users": liked,
        f"parts of the users and videos, {SERVED}": parts,
        f"fits, {THREADS} threads": times,
    }


SERVED: Final = "served: as a run fits, with both and the prior"


def rankings(settings: RetrainSettings) -> list[Ranking]:
    """Return the ways to rank."""
    factors, epochs = settings.retrain_factors, settings.retrain_epochs
    bias, recent = settings.retrain_bias_share, settings.retrain_recent_share

    def lightfm(name: str, bias: float, recent: float, **other: Any) -> Ranking:
        how = {"factors": factors, "epochs": epochs, "places": settings.retrain_recent_half_life} | other
        weights = how.pop("weights", WEIGHTS)
        return Ranking(name=name, fit=partial(_lightfm, **how, bias=bias, recent=recent), weights=weights)

    found = [
        Ranking(name="decayed popularity", fit=_nothing, weights=(1.0,)),
        Ranking(name="EASE", fit=_ease, options=[{"penalty": one} for one in EASE_PENALTIES], weights=(0.0,)),
        Ranking(name="EASE + prior", fit=_ease, options=[{"penalty": one} for one in EASE_PENALTIES]),
        Ranking(name="implicit ALS", fit=_als, options=_als_options(), weights=(0.0,)),
        Ranking(name="implicit ALS + prior", fit=_als, options=_als_options()),
        lightfm("LightFM", 1.0, 0.0, weights=(0.0,)),
        lightfm("LightFM + prior", 1.0, 0.0),
        lightfm("+ bias share", bias, 0.0),
        lightfm("+ recent share", 1.0, recent),
        lightfm("both without prior", bias, recent, weights=(0.0,)),
        lightfm("+ both", bias, recent),
        Ranking(name=SERVED, fit=lambda split, _: split.as_a_run().scores),
    ]
    return found + (_more(lightfm, bias, recent) if FULL else [])


def _more(lightfm: Callable[..., Ranking], bias: float, recent: float) -> list[Ranking]:
    return [
        lightfm("both, no bias", 0.0, recent),
        lightfm("both, bias share 0.6", 0.6, recent),
        lightfm("both, recent share 0.25", bias, 0.25),
        lightfm("both, recent share 0.75", bias, 0.75),
        lightfm("both, only the recent", bias, 1.0),
        lightfm("both, recent half-life of 3 videos", bias, recent, places=3.0),
        lightfm("both, recent half-life of 30 videos", bias, recent, places=30.0),
        lightfm("LightFM of 64 factors + prior", 1.0, 0.0, factors=64),
        lightfm("both, 64 factors", bias, recent, factors=64),
        lightfm("both, 10 epochs", bias, recent, epochs=10),
        lightfm("both, 30 epochs", bias, recent, epochs=30),
    ]


def choose(ranking: Ranking, split: Split) -> Chosen:
    """Return what is best on a split; nothing is fitted where there is nothing to choose."""
    if len(ranking.options) == len(ranking.weights) == 1:
        return Chosen(options=ranking.options[0], weight=ranking.weights[0])
    best = Chosen()
    for options in ranking.options:
        found = split.watched.judge(ranking.fit(split, options), ranking.weights, threads=THREADS)
        for weight, one in zip(ranking.weights, found, strict=True):
            if one.ndcg > best.ndcg:
                best = Chosen(options=options, weight=weight, ndcg=one.ndcg)
    return best


def judged(day: HeldOutDay, scores: Scores, weight: float) -> dict[str, float | str]:
    """Return the cells of one ranking."""
    (pages,) = day.pages(scores, (weight,), threads=THREADS)
    found, counts = hits(pages, day.relevant), day.relevant.lengths()
    all_in_all = quality(pages, day.relevant, day.popularity)
    cells: dict[str, float | str] = {}
    for name, values in {
        f"recall@{PAGE_SIZE}": recall(found, counts),
        f"NDCG@{PAGE_SIZE}": ndcg(found, counts),
    }.items():
        one = interval(values, seed=0)
        cells[name] = f"{one.mean:.4f} ({one.low:.4f}-{one.high:.4f})"
    return cells | {
        "videos shown": all_in_all.coverage,
        "popular share": f"{all_in_all.popularity_share:.3f}",
        "novelty, bits": f"{all_in_all.novelty:.2f}",
    }


def _parts(day: HeldOutDay, scores: Scores, weight: float) -> Iterable[Row]:
    (pages,) = day.pages(scores, (weight,), threads=THREADS)
    for part in slices(pages, day.users, day.relevant, day.seen, seed=0):
        yield {
            "part": part.name,
            "users": part.users,
            f"recall@{PAGE_SIZE}": f"{part.recall.mean:.4f} ({part.recall.low:.4f}-{part.recall.high:.4f})",
            f"NDCG@{PAGE_SIZE}": f"{part.ndcg.mean:.4f} ({part.ndcg.low:.4f}-{part.ndcg.high:.4f})",
        }


def _lightfm(
    split: Split, _: Options, *, factors: int, epochs: int, places: float, bias: float, recent: float
) -> Scores:
    learnt = split.lightfm(factors, epochs)
    tastes = split.tastes(places)
    return served(learnt, tastes, scale=spread_ratio(learnt, tastes), recent_share=recent, bias_share=bias).scores


def _nothing(_: Split, __: Options) -> Scores:
    return lambda _, out: out.fill(0)


def _ease(split: Split, options: Options) -> Scores:
    """Fit EASE (Steck: "Embarrassingly Shallow Autoencoders for Sparse Data", 2019)."""
    key = options["penalty"]
    matrix = split.matrix()
    if (split, key) not in _FITTED:
        gram = (matrix.T @ matrix).toarray()
        gram[np.diag_indices(len(gram))] += key
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices(len(weights))] = 0
        _FITTED[split, key] = weights
    return _product(matrix, _FITTED[split, key])


def _als(split: Split, options: Options) -> Scores:
    """Fit implicit ALS (Hu, Koren, Volinsky: "Collaborative Filtering for Implicit Feedback Datasets", 2008)."""
    key = tuple(options.values())
    if (split, key) not in _FITTED:
        factors, weight, penalty = key
        model = AlternatingLeastSquares(
            factors=factors, regularization=penalty, alpha=1.0, iterations=15, num_threads=THREADS, random_state=0
        )
        model.fit(split.matrix(weight), show_progress=False)
        _FITTED[split, key] = (np.array(model.user_factors), np.array(model.item_factors))
    user_factors, video_factors = _FITTED[split, key]
    return lambda users, out: np.matmul(user_factors[users], video_factors.T, out=out)


_FITTED: Final[dict[tuple[Split, Any], Any]] = {}


def _product(matrix: Any, weights: NDArray[np.float32]) -> Scores:
    return lambda users, out: np.copyto(out, matrix[users] @ weights)


def _als_options() -> list[Options]:
    return [dict(zip(("factors", "weight", "penalty"), one, strict=True)) for one in ALS_SETTINGS]


def _told(chosen: Chosen) -> str:
    weight = [] if np.isinf(chosen.weight) else [f"prior {chosen.weight:g}"]
    return ", ".join([*(f"{name} {value:g}" for name, value in chosen.options.items()), *weight])
