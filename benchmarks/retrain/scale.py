"""Measures a training run from 100,000 interactions on: time and memory of its stages, beside LightFM's own fit.

Each run is a process of its own, on generated exports; so is LightFM alone, which fits the matrix that the run would
publish, with the same parameters, epochs and threads: as it is installed, which runs anywhere, and in a build with
LightFM's own flags, which runs on this kind of processor only. (It is made for this, from the package index.)
Processor seconds tell on a busy machine what times do not. RETRAIN_SCALE and RETRAIN_SCALE_PREPARE list the sizes of
whole runs and of those that end when the data is prepared: 10^7 takes ten minutes, most of them LightFM's, and 10^8
prepared some.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks.report import Row
from benchmarks.retrain.generated_feed import generate
from servicekit.inputs.numbers import read_number

RUNS: Final = os.environ.get("RETRAIN_SCALE", "100000,1000000")
PREPARED: Final = os.environ.get("RETRAIN_SCALE_PREPARE", "10000000")
LIGHTFM: Final = "rectools-lightfm"
THREADS: Final = len(os.sched_getaffinity(0))
MEMORY: Final = "2GiB"
"""What the database may use; the process as a whole may use 4 GiB."""


def run() -> Mapping[str, list[Row]]:
    """Return the tables."""
    with _own_flags() as build:
        runs = [_measured(size, partial(_whole, build)) for size in _sizes(RUNS)]
    prepared = [_measured(size, _prepared) for size in _sizes(PREPARED)]
    return {
        "whole runs, seconds": runs,
        "prepared only": prepared,
        "growth with ten times the interactions": [*_growth(runs), *_growth(prepared)],
    }


def _sizes(text: str) -> list[int]:
    return [int(read_number(one, least=1, most=1e10)) for one in text.split(",") if one]


def _measured(interactions: int, measure: Callable[[Path], dict[str, float]]) -> Row:
    with tempfile.TemporaryDirectory(prefix="scale-") as scratch:
        folder = Path(scratch)
        generate(interactions, folder, threads=THREADS)
        size = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
        return {"interactions": f"{interactions:,}", "parquet MB": round(size / 1e6), **measure(folder)}


@contextmanager
def _own_flags() -> Iterator[Path]:
    """Build LightFM with its own flags, -ffast-math and -march=native, into a folder."""
    with tempfile.TemporaryDirectory(prefix="lightfm-") as folder:
        if _sizes(RUNS):
            environment = {
                key: value for key, value in os.environ.items() if key not in {"CFLAGS", "LIGHTFM_NO_CFLAGS"}
            }
            package = f"{LIGHTFM}=={version(LIGHTFM)}"
            options = ["--quiet", "--no-deps", "--no-cache-dir", "--no-binary", LIGHTFM, "--target", folder]
            subprocess.run([sys.executable, "-m", "pip", "install", *options, package], env=environment, check=True)
        yield Path(folder)


def _whole(build: Path, folder: Path) -> dict[str, float]:
    found = _child("pipeline", folder)
    row = dict(found)
    alone = {
        "LightFM": _child("lightfm", folder),
        "LightFM with its own flags": _child("lightfm", folder, PYTHONPATH=str(build)),
    }
    for name, took in alone.items():
        row |= {f"{name}, {what}": spent for what, spent in took.items()}
        row |= {f"{what} / {name}": round(found[what] / spent, 2) for what, spent in took.items()}
    return row


def _prepared(folder: Path) -> dict[str, float]:
    return _child("prepare", folder)


def _child(what: str, folder: Path, **environment: str) -> dict[str, float]:
    """Run a part in a process of its own, so that its memory is its own, and return its measurements."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.retrain.scale", what, str(folder)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _growth(rows: list[Row]) -> Iterator[Row]:
    for before, after in pairwise(rows):
        times = {
            name: round(float(after[name]) / float(before[name]), 1)
            for name in after
            if name in before and isinstance(after[name], float) and float(before[name]) >= 0.1
        }
        yield {"from": before["interactions"], "to": after["interactions"], **times}


def _pipeline(folder: Path) -> dict[str, float]:
    """Run the nightly job without the gate, which generated data need not pass."""
    from modelstore.registry import Registry  # noqa: PLC0415  # the parent needs none of it
    from retrain.gates.smoke_test import SmokeServer  # noqa: PLC0415
    from retrain.pipeline.progress_bar import Lines  # noqa: PLC0415
    from retrain.pipeline.stages import RunContext, utc_now  # noqa: PLC0415
    from retrain.pipeline.stages import run as run_pipeline  # noqa: PLC0415
    from retrain.training.checkpoint_store import CheckpointStore  # noqa: PLC0415
    from servicekit.storage.object_store import FileStore  # noqa: PLC0415

    settings, window, source = _input(folder)
    begin, spent_before = time.perf_counter(), _processor()
    observer, models = _observer(), FileStore(folder / "models")
    job = RunContext(
        settings=settings,
        window=window,
        source=source,
        registry=Registry(models),
        folder=folder,
        progress=Lines(),
        now=utc_now,
        smoke_server=SmokeServer,
        checkpoints=CheckpointStore(models),
        kept=folder / "kept",
        force=True,
        observer=observer,
    )
    result = run_pipeline(job)
    total = time.perf_counter() - begin
    counts = observer.findings.counts
    assert counts  # noqa: S101  # the run got so far
    seconds = {name: round(spent, 1) for name, spent in observer.findings.stage_seconds.items()}
    rest = total - sum(observer.findings.stage_seconds.values())
    return {
        "users": counts.users,
        "videos": counts.videos,
        **seconds,
        "matrices and rest": round(rest, 1),
        "total": round(total, 2),
        "processor": round(_processor() - spent_before, 2),
        "peak MiB": round(max(*observer.peaks.values(), _peak())),
        "peak MiB prepare": round(observer.peaks["prepare"]),
        "judged users": result.evaluation.users if result.evaluation else 0,
    }


def _lightfm(folder: Path) -> dict[str, float]:
    """Fit the matrix of all positives with LightFM alone."""
    from benchmarks.retrain.plain_lightfm import plain_fit  # noqa: PLC0415

    settings, window, _ = _input(folder)
    with _warehouse(folder) as interactions:
        fit = plain_fit(interactions.positives(window.until, half_life=settings.half_life()), settings)
    begin, spent_before = time.perf_counter(), _processor()
    fit()
    return {
        "total": round(time.perf_counter() - begin, 2),
        "processor": round(_processor() - spent_before, 2),
    }


def _prepare(folder: Path) -> dict[str, float]:
    """Prepare the data, and run each query of training and evaluation once."""
    settings, window, _ = _input(folder)
    day = timedelta(days=1)
    begin = time.perf_counter()
    with _warehouse(folder) as interactions:
        prepared, peak = time.perf_counter() - begin, _peak()
        _reset_peak()
        interactions.days()
        positives = interactions.positives(window.until, half_life=settings.half_life())
        seen = interactions.seen(window.until)
        interactions.popularity(window.until, half_life=settings.popularity_half_life())
        interactions.targets(window.until - day, window.until)
        return {
            "users": interactions.counts.users,
            "videos": interactions.counts.videos,
            "positives": len(positives),
            "seen": len(seen.rows),
            "prepare s": round(prepared, 1),
            "matrices s": round(time.perf_counter() - begin - prepared, 1),
            "peak MiB prepare": round(peak),
            "peak MiB matrices": round(_peak()),
        }


def _input(folder: Path) -> Any:
    from retrain.data.exports import choose_window  # noqa: PLC0415
    from retrain.data.input_files import fetch  # noqa: PLC0415
    from retrain.settings import RetrainSettings  # noqa: PLC0415
    from servicekit.storage.object_store import FileStore  # noqa: PLC0415

    exports = FileStore(folder / "exports")
    settings = RetrainSettings(
        interactions_url=(folder / "exports").as_uri(),
        model_store_url=(folder / "models").as_uri(),
        retrain_memory=MEMORY,
        retrain_threads=THREADS,
    )
    window = choose_window(exports, last=None, length=30, marker_required=True)
    return settings, window, fetch(window, exports, FileStore(folder), folder)


@contextmanager
def _warehouse(folder: Path) -> Iterator[Any]:
    from retrain.data.duckdb_session import DuckDbSession  # noqa: PLC0415
    from retrain.data.prepare import prepare  # noqa: PLC0415

    _, window, source = _input(folder)
    with (
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        DuckDbSession(Path(scratch), memory=MEMORY, threads=THREADS) as warehouse,
    ):
        yield prepare(source, window, warehouse)


def _observer() -> Any:
    from retrain.pipeline.observer import RunObserver  # noqa: PLC0415

    class MeasuredObserver(RunObserver):
        """Observer that also records the peak memory of each stage, MiB."""

        def __init__(self) -> None:
            super().__init__()
            self.peaks = {"between": 0.0}

        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            self.peaks["between"] = max(self.peaks["between"], _peak())
            _reset_peak()
            with RunObserver.stage(self, name):
                yield
            self.peaks[name] = max(self.peaks.get(name, 0.0), _peak())

    return MeasuredObserver()


def _processor() -> float:
    """Return the processor seconds of this process and of those that it started and that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak() -> float:
    """Return the most resident memory since it was reset, MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


PARTS: Final[dict[str, Callable[[Path], dict[str, float]]]] = {
    "pipeline": _pipeline,
    "lightfm": _lightfm,
    "prepare": _prepare,
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](Path(sys.argv[2]))))
