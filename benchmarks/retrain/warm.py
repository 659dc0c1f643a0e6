"""Compares warm nights with full fits, night by night, on one thread, with several seeds.

Fits on several threads differ by some thousandths of NDCG from run to run; on one thread a seed tells all. From a full
fit of the first day of KuaiRand-Pure, the days after it are learnt one after another, each in two halves, as nights do.
Each night is judged on the day after, beside a full fit of the same days and seed. RETRAIN_WARM_SEEDS lists the seeds:
some two minutes each.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import knob
from benchmarks.report import Row
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import choose_window, midnight
from retrain.data.input_files import fetch
from retrain.data.prepare import Interactions, prepare
from retrain.evaluation.held_out_day import HeldOutDay
from retrain.evaluation.metrics import hits, ndcg
from retrain.pipeline.fits import UNPUBLISHED, Fits
from retrain.pipeline.observer import RunObserver
from retrain.pipeline.progress_bar import Lines
from retrain.pipeline.train import learn_before
from retrain.settings import RetrainSettings
from retrain.training.checkpoint import Checkpoint
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.logs import configure_logs

DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "kuairand"
SEEDS: Final = knob.wholes("RETRAIN_WARM_SEEDS", (0, 1), least=0)
DAY: Final = timedelta(days=1)
FIRST: Final = date(2022, 4, 24)
LAST: Final = date(2022, 4, 30)
WEIGHT: Final = 0.7
"""Of the popularity prior, for both: near what suits each of these days best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """A night under one seed."""

    day: date
    """The last one that was learnt."""
    users: int
    warm: float
    """NDCG@20 on the day after."""
    full: float
    """The same of a full fit."""
    cost: float
    """Processor time of the fit, as a share of that of the full one."""


def run() -> dict[str, list[Row]]:
    """Compare the nights, and return the tables."""
    if not DATA.is_dir():
        return {"skipped": [{"reason": "the KuaiRand data is not beside the repository"}]}
    configure_logs("warning", service="benchmark")
    with _interactions() as interactions:
        nights = [night for seed in SEEDS for night in _nights(interactions, seed)]
    days = sorted({night.day for night in nights})
    rows = [_row(str(day), [night for night in nights if night.day == day]) for day in days]
    return {f"KuaiRand-Pure, seeds {', '.join(map(str, SEEDS))}": [*rows, _row("all", nights)]}


@contextmanager
def _interactions() -> Iterator[Interactions]:
    settings, exports = _settings(0), FileStore(DATA / "exports")
    window = choose_window(exports, last=LAST, length=settings.retrain_window_days, marker_required=False)
    with tempfile.TemporaryDirectory(prefix="bench-warm-") as name:
        folder = Path(name)
        with DuckDbSession(folder, memory=settings.retrain_memory, threads=1) as warehouse:
            yield prepare(fetch(window, exports, FileStore(DATA), folder), window, warehouse)


def _settings(seed: int) -> RetrainSettings:
    return RetrainSettings(
        interactions_url=DATA.as_uri(), model_store_url=DATA.as_uri(), retrain_threads=1, retrain_seed=seed
    )


def _nights(interactions: Interactions, seed: int) -> Iterator[Night]:
    """Yield the nights after the first, each beside a full fit."""
    warm, _ = _full_fit(interactions, seed, FIRST)
    for number in range(1, (LAST - FIRST).days):
        day = FIRST + number * DAY
        begin = time.process_time()
        warm = _fits(interactions, seed, warm.checkpoint(UNPUBLISHED, WEIGHT))
        _learn_halves(interactions, warm, day)
        warm_s = time.process_time() - begin
        full, full_s = _full_fit(interactions, seed, day)
        after = full.held_out(midnight(day + DAY))
        yield Night(
            day=day,
            users=len(after.users),
            warm=_ndcg(warm, after),
            full=_ndcg(full, after),
            cost=warm_s / full_s,
        )


def _full_fit(interactions: Interactions, seed: int, day: date) -> tuple[Fits, float]:
    """Return a fit from nothing on all up to a day's end, as a run makes it, and its processor seconds."""
    fits = _fits(interactions, seed)
    last = midnight(day)
    begin = time.process_time()
    learn_before(fits, last)
    _learn_halves(interactions, fits, day)
    return fits, time.process_time() - begin


def _fits(interactions: Interactions, seed: int, start: Checkpoint | None = None) -> Fits:
    return Fits(_settings(seed), interactions, progress=Lines(), observer=RunObserver(), start=start)


def _learn_halves(interactions: Interactions, fits: Fits, day: date) -> None:
    since = midnight(day)
    middle = interactions.middle(since, since + DAY)
    if middle:
        fits.fit("half", middle)
    fits.fit("final", since + DAY)


def _ndcg(fits: Fits, day: HeldOutDay) -> float:
    (pages,) = day.pages(fits.representations_of(day.users).scores, (WEIGHT,))
    return float(ndcg(hits(pages, day.relevant), day.relevant.lengths()).mean())


def _row(name: str, nights: list[Night]) -> Row:
    """Return the means of some nights, and the standard error of the difference over them."""
    differences = np.array([night.warm - night.full for night in nights])
    error = differences.std(ddof=1) / np.sqrt(len(nights)) if len(nights) > 1 else float("nan")
    return {
        "night": name,
        "users": round(np.mean([night.users for night in nights])),
        "NDCG@20 warm": round(float(np.mean([night.warm for night in nights])), 4),
        "NDCG@20 full": round(float(np.mean([night.full for night in nights])), 4),
        "difference": round(float(differences.mean()), 4),
        "standard error": round(float(error), 4),
        "fit / full fit, CPU": round(float(np.mean([night.cost for night in nights])), 2),
    }
