"""What a warm night loses by how much of what is older it replays, on one thread, with several seeds.

Fits on several threads differ by some thousandths of NDCG from run to run; on one thread a seed tells all. From a full
fit, five days of KuaiRand-Pure are learnt one after another, each in two halves, as nights do. What came of it is
judged on the day after, beside a full fit of the same days and seed. RETRAIN_REPLAY_SEEDS lists the seeds: a minute for
each full fit, half a minute for each share.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row
from retrain.checkpoint import Checkpoint
from retrain.evaluation import HeldOutDay
from retrain.exports import choose_window, midnight
from retrain.fits import UNPUBLISHED, Fits
from retrain.metrics import hits, ndcg
from retrain.preparation import Interactions, prepare
from retrain.progress import Lines
from retrain.record import Record
from retrain.settings import RetrainSettings
from retrain.source import fetch
from retrain.training import FIRST_PART
from retrain.warehouse import Warehouse
from servicekit.logs import configure_logs
from servicekit.objectstore import FileStore

DATA: Final = Path(__file__).parents[2] / "shared" / "data" / "kuairand"
SEEDS: Final = tuple(map(int, os.environ.get("RETRAIN_REPLAY_SEEDS", "0,1").split(",")))
SHARES: Final = (0.3, 0.6)
DAY: Final = timedelta(days=1)
JUDGED: Final = date(2022, 4, 30)
NIGHTS: Final = 5
WEIGHT: Final = 0.8
"""Of the popularity prior, as full fits choose it."""


def run() -> dict[str, list[Row]]:
    """Compare the shares."""
    if not DATA.is_dir():
        return {"skipped": [{"reason": "the KuaiRand data is not beside the repository"}]}
    configure_logs("warning", service="benchmark")
    with _interactions() as interactions:
        rows = [row for seed in SEEDS for row in _compared(interactions, seed)]
    return {"KuaiRand-Pure, after five nights": [*rows, *(_mean(rows, share) for share in SHARES)]}


@contextmanager
def _interactions() -> Iterator[Interactions]:
    settings, exports = _settings(0), FileStore(DATA / "exports")
    window = choose_window(exports, last=JUDGED, length=settings.retrain_window_days, marker_required=False)
    with tempfile.TemporaryDirectory(prefix="bench-replay-") as name:
        folder = Path(name)
        with Warehouse(folder, memory=settings.retrain_memory, threads=1) as warehouse:
            yield prepare(fetch(window, exports, FileStore(DATA), folder), window, warehouse)


def _settings(seed: int, share: float = 0.0) -> RetrainSettings:
    return RetrainSettings(
        interactions_url=DATA.as_uri(),
        model_store_url=DATA.as_uri(),
        retrain_threads=1,
        retrain_seed=seed,
        retrain_warm_replayed_share=share,
    )


def _compared(interactions: Interactions, seed: int) -> Iterator[Row]:
    full, full_s = _full_fit(interactions, seed, JUDGED)
    day = full.held_out(midnight(JUDGED))
    best = _gains(full, day)
    first, _ = _full_fit(interactions, seed, JUDGED - NIGHTS * DAY)
    for share in SHARES:
        warm, warm_s = _nights(interactions, _settings(seed, share), first.checkpoint(UNPUBLISHED, WEIGHT))
        gains = _gains(warm, day)
        yield {
            "seed": seed,
            "replayed share": share,
            "viewers": len(gains),
            "NDCG@20 warm": round(float(gains.mean()), 4),
            "NDCG@20 full": round(float(best.mean()), 4),
            "difference": round(float((gains - best).mean()), 4),
            "fit of a night / full fit, CPU": round(warm_s / NIGHTS / full_s, 2),
        }


def _full_fit(interactions: Interactions, seed: int, until: date) -> tuple[Fits, float]:
    """Return a fit from nothing on all before a day, as a run makes it, and its processor seconds."""
    fits, begin = _fits(interactions, _settings(seed)), time.process_time()
    fits.fit("base", midnight(until - 2 * DAY))
    fits.fit("validated", midnight(until - DAY))
    _learn_halves(interactions, fits, until - DAY)
    return fits, time.process_time() - begin


def _nights(interactions: Interactions, settings: RetrainSettings, start: Checkpoint) -> tuple[Fits, float]:
    """Return what came of all nights up to the judged day, and their processor seconds."""
    fits, begin = _fits(interactions, settings, start), time.process_time()
    for night in range(NIGHTS, 0, -1):
        _learn_halves(interactions, fits, JUDGED - night * DAY)
    return fits, time.process_time() - begin


def _fits(interactions: Interactions, settings: RetrainSettings, start: Checkpoint | None = None) -> Fits:
    return Fits(settings, interactions, progress=Lines(), record=Record(), start=start)


def _learn_halves(interactions: Interactions, fits: Fits, day: date) -> None:
    since = midnight(day)
    middle = interactions.middle(since, since + DAY)
    if middle:
        fits.fit("half", middle, part=FIRST_PART)
    fits.fit("final", since + DAY, part=1 - FIRST_PART)


def _gains(fits: Fits, day: HeldOutDay) -> NDArray[np.float64]:
    (pages,) = day.pages(fits.representations_of(day.users).scores, (WEIGHT,))
    return ndcg(hits(pages, day.relevant), day.relevant.lengths())


def _mean(rows: list[Row], share: float) -> Row:
    """Return the mean difference of a share over the seeds, with its standard error over them."""
    found = [float(row["difference"]) for row in rows if row["replayed share"] == share]
    error = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    return {
        "seed": "mean",
        "replayed share": share,
        "difference": round(float(np.mean(found)), 4),
        "standard error": round(float(error), 4),
    }
