"""Runs nights one after another: each continues from the one before, goes live, and is compared with a full fit.

Each night is a process of its own, `python -m retrain run`, and its model is seen on a page of a running recsvc. A
model is judged on the day after its data, which it knows nothing of. Days are those of KuaiRand-Pure where it stands
beside the repository, else of a SIMULATED feed. `RETRAIN_NIGHTLY=full` compares every night with a full run, and with a
full fit of LightFM alone; `RETRAIN_NIGHTLY_GENERATED=1e7` takes a month of as many generated interactions, and its last
two nights.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks import knob
from benchmarks.recsvc.server import recsvc_of, running
from benchmarks.report import Row
from benchmarks.retrain.generated_feed import generate
from benchmarks.retrain.plain_lightfm import plain_fit
from deploy.local.program import local_environment
from modelstore.artefact import read
from modelstore.registry import Registry
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import choose_window, list_days, midnight
from retrain.data.input_files import fetch
from retrain.data.prepare import prepare
from retrain.evaluation.confidence import interval
from retrain.evaluation.held_out_day import PAGE_SIZE, HeldOutDay
from retrain.evaluation.live_model import LiveModel
from retrain.evaluation.metrics import hits, ndcg
from retrain.importers.simulation import Simulation, simulate
from retrain.run_log.row import RunRow
from retrain.run_log.store import FileRuns
from retrain.settings import RetrainSettings
from servicekit.storage.object_store import FileStore
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "kuairand"
FULL: Final = os.environ.get("RETRAIN_NIGHTLY") == "full"
GENERATED: Final = int(knob.number("RETRAIN_NIGHTLY_GENERATED", 0.0))
FLAGS: Final = ("--force",) if GENERATED else ()
"""Made-up data need not pass the gate."""
GENERATED_DAYS: Final = 32
"""A full window before the first night's end, another night, and the day on which both are judged."""
DAY: Final = timedelta(days=1)
LIVE_WITHIN_S: Final = 30.0
SIMULATED: Final = Simulation(users=2000, videos=400, days=10, views=12, seed=1, last=date(2025, 9, 10))
SIMULATED_BEFORE: Final = 4
"""Days before the first night: this feed has no earlier history to learn from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """A run that published."""

    day: date
    """The last day of its data."""
    version: str
    seconds: float
    cpu_seconds: float
    stages: dict[str, float]
    ndcg: float
    """On its last day, judged before it learnt from it; NaN where there was nothing to judge."""


def run() -> dict[str, list[Row]]:
    """Run the nights, and full fits beside them."""
    with tempfile.TemporaryDirectory(prefix="bench-nightly-") as name:
        folder = Path(name)
        title, feed, before = _feed(folder / "feed")
        days = [one.day for one in list_days(FileStore(feed / "exports"))][before:]
        compared = days[:-1] if FULL else days[-2:-1]
        nights, live_s, full = _nights(feed, folder, days, compared)
        rows = [_row(night, live) for night, live in zip(nights, live_s, strict=True)]
        judged = [_compared(feed, folder, nights[days.index(day)], full[day]) for day in compared]
        return {f"{title}, nights": rows, "warm nights beside full fits, judged on the day after": judged}


def _feed(folder: Path) -> tuple[str, Path, int]:
    """Return a name, a folder, and the days in it before the first night."""
    if GENERATED:
        generate(GENERATED, folder, threads=len(os.sched_getaffinity(0)), days=GENERATED_DAYS)
        return f"{GENERATED:,} generated interactions", folder, GENERATED_DAYS - 3
    if DATA.is_dir():
        return "KuaiRand-Pure", DATA, 0
    simulate(SIMULATED, folder)
    return "SIMULATED feed", folder, SIMULATED_BEFORE


def _nights(
    feed: Path, folder: Path, days: list[date], compared: list[date]
) -> tuple[list[Night], list[float], dict[date, Night]]:
    """Return the runs, the first of them a full fit; the seconds from each one's end to a page of its model; full runs.

    A full run follows its warm night at once, so that a change of the machine's speed tells on both.
    """
    nights, seconds, full = [], [], {}
    with ExitStack() as stack:
        for day in days:
            nights.append(_night(feed, folder / "warm", day, *FLAGS))
            if day == days[0]:
                stub = stack.enter_context(_recsvc(folder / "warm"))
            seconds.append(_until_served(stub, nights[-1].version))
            if day in compared:
                full[day] = nights[0] if day == days[0] else _night(feed, folder / "full", day, "--cold", "--force")
    return nights, seconds, full


def _night(feed: Path, folder: Path, day: date, *flags: str) -> Night:
    environment = local_environment(os.environ) | {
        "INTERACTIONS_URL": (feed / "exports").as_uri(),
        "CATALOGUE_URL": feed.as_uri(),
        "MODEL_STORE_URL": (folder / "models").as_uri(),
        "RETRAIN_WORK_DIR": str(folder / "work"),
        "LOG_LEVEL": "warning",
    }
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "retrain", "run", "--date", str(day), *flags]
    begin, before = time.monotonic(), _children_cpu_s()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds, cpu_seconds = time.monotonic() - begin, _children_cpu_s() - before
    row: RunRow = FileRuns(folder / "work" / "runs").recent(1)[0]
    if row.version is None:
        raise RuntimeError(f"the run of {day} published nothing")
    metrics = Registry(FileStore(folder / "models")).manifest(row.version).metrics
    return Night(
        day=day,
        version=row.version,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        stages=row.stage_seconds,
        ndcg=metrics.get(f"lightfm_prior.ndcg@{PAGE_SIZE}", float("nan")),
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _recsvc(folder: Path) -> Iterator[RecommendationServiceStub]:
    """Serve on the machine that trains, but leave it to the nights: pages found ahead would take both its cores."""
    service = recsvc_of(folder, MODEL_POLL_INTERVAL_S="0.2", RECSVC_PRECOMPUTED_USERS="0", LOG_LEVEL="warning")
    with running(service), grpc.insecure_channel(service.address) as channel:
        yield RecommendationServiceStub(channel)


def _until_served(stub: RecommendationServiceStub, version: str) -> float:
    """Return the seconds until a page is of this model."""
    begin = time.monotonic()
    while time.monotonic() < begin + LIVE_WITHIN_S:
        reply = stub.Recommend(pb.RecommendRequest(user_id="nobody", page_size=PAGE_SIZE), timeout=1)
        if reply.model_version == version and len(reply.videos) == PAGE_SIZE:
            return time.monotonic() - begin
        time.sleep(0.02)
    raise RuntimeError(f"no page of {version} within {LIVE_WITHIN_S:.0f} s")


def _row(night: Night, live_s: float) -> Row:
    fit_s = night.stages.get("fit", 0.0)
    return {
        "night": str(night.day),
        "run s": round(night.seconds, 1),
        "CPU s": round(night.cpu_seconds, 1),
        "fit s": round(fit_s, 1),
        "page of it after s": round(live_s, 2),
        f"NDCG@{PAGE_SIZE} of the day before's state": round(night.ndcg, 4),
    }


def _compared(feed: Path, folder: Path, warm: Night, full: Night) -> Row:
    """Return both models of a night side by side, the same users paired."""
    models = {"warm": folder / "warm", "full": folder / ("warm" if full is warm else "full")}
    versions = {"warm": warm.version, "full": full.version}
    paths = {name: models[name] / "models" / versions[name] for name in models}
    gains, lightfm_s = _judged(feed, warm.day + DAY, paths)
    difference = interval(gains["warm"] - gains["full"], seed=0)
    return {
        "night": str(warm.day),
        "users": len(gains["warm"]),
        f"NDCG@{PAGE_SIZE} warm": round(float(gains["warm"].mean()), 4),
        f"NDCG@{PAGE_SIZE} full": round(float(gains["full"].mean()), 4),
        "difference (95 %)": f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})",
        "full run s": round(full.seconds, 1),
        "LightFM alone s": round(lightfm_s, 1),
        "warm / LightFM alone": round(warm.seconds / lightfm_s, 2),
        "warm / full, run": round(warm.seconds / full.seconds, 2),
        "warm / full, CPU": round(warm.cpu_seconds / full.cpu_seconds, 2),
        "warm / full, fit": round(warm.stages["fit"] / full.stages["fit"], 2),
    }


def _judged(feed: Path, day: date, models: dict[str, Path]) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Return the NDCG of each user's page of a day under each model, popularity being that of the day's beginning.

    Beside it, the seconds that LightFM alone takes for a full fit of what came before the day.
    """
    settings = RetrainSettings(interactions_url=feed.as_uri(), model_store_url=feed.as_uri())
    exports = FileStore(feed / "exports")
    window = choose_window(exports, last=day, length=settings.retrain_window_days, marker_required=False)
    gains = {}
    with tempfile.TemporaryDirectory(prefix="bench-judged-") as name:
        folder, since = Path(name), midnight(day)
        with DuckDbSession(folder, memory=settings.retrain_memory, threads=settings.retrain_threads) as warehouse:
            interactions = prepare(fetch(window, exports, FileStore(feed), folder), window, warehouse)
            held_out = HeldOutDay.build(
                interactions.targets(since, since + DAY),
                interactions.seen(since),
                interactions.popularity(since, half_life=settings.popularity_half_life()),
                most_users=settings.retrain_evaluation_users,
                seed=settings.retrain_seed,
            )
            users, videos = interactions.users(), interactions.videos()
            fit = plain_fit(interactions.positives(since, half_life=settings.half_life()), settings)
        for model, path in models.items():
            live_model = LiveModel.of(read(path), users, videos)
            weight = live_model.manifest.popularity_weight
            (pages,) = held_out.pages(live_model.representations_of(held_out.users).scores, (weight,))
            gains[model] = ndcg(hits(pages, held_out.relevant), held_out.relevant.lengths())
    begin = time.monotonic()
    fit()
    return gains, time.monotonic() - begin
