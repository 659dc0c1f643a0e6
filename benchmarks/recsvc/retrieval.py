"""Measures time, memory and recall of a user's best 20 videos, from 1,000 videos to 1,000,000.

The factors are those of a LightFM WARP fit on simulated tastes, multiplied by perturbed copies to the size of the
catalogue, with a popularity prior of heavy tail. All ways answer the same users in the same process on one core;
recall is against the exact scan.
"""

import os
import time
from collections.abc import Callable
from copy import copy
from statistics import median
from typing import Any

import faiss
import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from lightfm import LightFM
from numpy.typing import NDArray

from benchmarks import knob
from benchmarks.machine import MEBIBYTE, resident_bytes
from benchmarks.report import Row
from recsvc.domain.user import User, UserState
from recsvc.ranking.approximate import FROM, RECALL, IndexedRanker
from recsvc.ranking.exact import ExactRanker, Exclusions
from recsvc.ranking.inverted_file import HEAD

SIZES = knob.wholes("RETRIEVAL_SIZES", (1000, 10_000, 20_000, 50_000, 100_000, 1_000_000))
DIMENSIONS = 64
PAGE = 20
POPULARITY_WEIGHT = 0.3
SHORTLIST = 256
QUERIES = 200
SLOW = 1_000_000
"""Scores computed in all by each way that scans, beyond ten queries."""

Answer = Callable[[int], NDArray[np.int64]]


def run() -> dict[str, list[Row]]:
    """Compare the ways at every size."""
    faiss.omp_set_num_threads(1)
    fit = fitted()
    return {f"{size} videos x {DIMENSIONS}": compare(fit, size) for size in SIZES}


def fitted() -> LightFM:
    """Return a model of simulated tastes: what a user watches follows taste, popularity and chance."""
    rng = np.random.default_rng(0)
    users, videos, watched = 2_000, 5_000, 40
    taste = rng.standard_normal((users, 16)) @ rng.standard_normal((16, videos)) / 4
    drawn = taste + 1.5 * rng.standard_normal(videos) + rng.gumbel(size=(users, videos))
    columns = np.argpartition(-drawn, watched, axis=1)[:, :watched]
    rows = np.repeat(np.arange(users), watched)
    matrix = sp.coo_matrix((np.ones(rows.size, np.float32), (rows, columns.ravel())), (users, videos))
    model = LightFM(no_components=DIMENSIONS, loss="warp", random_state=0)
    model.fit(matrix, epochs=10)
    return model


def grown(embeddings: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return this many perturbed copies of rows, (count, d), drawn at random."""
    factors = embeddings[rng.integers(0, len(embeddings), count)]
    factors += 0.5 * embeddings.std(axis=0) * rng.standard_normal(factors.shape, dtype=np.float32)
    return np.ascontiguousarray(factors, np.float32)


def catalogue(fit: LightFM, videos: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return factors, biases and popularity of a catalogue of this size."""
    rng = np.random.default_rng(1)
    beside = grown(np.hstack([fit.item_embeddings, fit.item_biases[:, None]]), videos, rng)
    factors, biases = np.ascontiguousarray(beside[:, :-1]), np.ascontiguousarray(beside[:, -1])
    return factors, biases, rng.pareto(1.2, videos).astype(np.float32)


def compare(fit: LightFM, videos: int) -> list[Row]:
    """Return one row for each way of finding a user's best videos."""
    factors, biases, popularity = catalogue(fit, videos)
    static = (biases + POPULARITY_WEIGHT * np.log(1 + popularity)).astype(np.float32)
    vectors = np.ascontiguousarray(fit.user_embeddings[:QUERIES], np.float32)
    users = [User(state=UserState.TRAINED, vector=one, bias=0.0, seen=np.empty(0, np.int32)) for one in vectors]
    exact = ExactRanker(factors, static)
    few = max(10, min(QUERIES, SLOW // videos))
    best = [set(exact.top(user, PAGE, Exclusions()).rows.tolist()) for user in users]

    def measured(way: str, answer: Answer, count: int) -> Row:
        return {"way": way, **_timed(answer, count, best)}

    rows = [
        measured("LightFM predict + sort", _lightfm(fit, factors, static), min(few, 20)),
        measured("implicit recommend", _implicit(factors, static, vectors), few),
        measured("flat FAISS", _flat(factors, static, vectors), few),
        measured("exact scan", lambda number: exact.top(users[number], PAGE, Exclusions()).rows, few),
    ]
    if videos > 2 * HEAD:
        rows += _indexed(exact, fit.user_embeddings[QUERIES : 2 * QUERIES].astype(np.float32), users, best)
    return rows


def _indexed(exact: ExactRanker, sample: NDArray[np.float32], users: list[User], best: list[set[int]]) -> list[Row]:
    held, began = resident_bytes(os.getpid()), time.perf_counter()
    index = IndexedRanker.built(exact)
    index.tune(sample)
    seconds, size = time.perf_counter() - began, resident_bytes(os.getpid()) - held
    page = _timed(lambda number: index.top(users[number], PAGE, Exclusions()).rows, QUERIES, best)
    shortlist = _timed(lambda number: index.top(users[number], SHORTLIST, Exclusions()).rows, QUERIES, best)
    is_chosen = len(exact.static) >= FROM and index.recall >= RECALL
    built: Row = {
        "build and tune s": round(seconds, 1),
        "index MiB": round(size / MEBIBYTE),
        "lists read": index.effort.depth,
        "candidates": 2 * PAGE + index.effort.spare,
        "recall at load": round(index.recall, 4),
        "serves": "index" if is_chosen else "scan",
    }
    return [{"way": "index", **page, **built}, {"way": f"index, {SHORTLIST} for a shortlist", **shortlist}]


def _timed(answer: Answer, count: int, best: list[set[int]]) -> dict[str, float | str]:
    """Return the median time of a query, on the wall and of the processor, and the share of the best that is found."""
    times, cpu_times, hits = [], [], []
    answer(0)
    for number in range(count):
        began, spent = time.perf_counter(), time.thread_time()
        found = answer(number)
        times.append(time.perf_counter() - began)
        cpu_times.append(time.thread_time() - spent)
        hits.append(len(best[number] & set(found[:PAGE].tolist())) / PAGE)
    return {
        "p50 ms": round(1000 * median(times), 3),
        "CPU ms": round(1000 * median(cpu_times), 3),
        "recall@20": round(float(np.mean(hits)), 4),
    }


def _lightfm(fit: LightFM, factors: NDArray[np.float32], static: NDArray[np.float32]) -> Answer:
    model = copy(fit)
    model.item_embeddings, model.item_biases = factors, static
    every = np.arange(len(factors))
    return lambda number: np.argsort(-model.predict(number, every))[:PAGE]


def _flat(factors: NDArray[np.float32], static: NDArray[np.float32], users: NDArray[np.float32]) -> Answer:
    points, queries = _with_static(factors, static, users)
    flat: Any = faiss.IndexFlatIP(DIMENSIONS + 1)
    flat.add(points)

    def answer(number: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = flat.search(queries[number : number + 1], PAGE)[1][0]
        return rows

    return answer


def _implicit(factors: NDArray[np.float32], static: NDArray[np.float32], users: NDArray[np.float32]) -> Answer:
    model: Any = AlternatingLeastSquares(factors=DIMENSIONS + 1, num_threads=1)
    model.item_factors, model.user_factors = _with_static(factors, static, users)

    def answer(number: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = np.asarray(model.recommend(number, None, PAGE, filter_already_liked_items=False)[0])
        return rows

    return answer


def _with_static(
    factors: NDArray[np.float32], static: NDArray[np.float32], users: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.hstack([factors, static[:, None]]), np.hstack([users, np.ones((len(users), 1), np.float32)])
