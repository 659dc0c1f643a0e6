"""Measures recsvc as catalogue and users grow: start, memory, latency and throughput, beside other ways to rank.

Each step publishes a model of that size and serves it in one process on one core; the caller sits on another. `start`
is the time until the server answers: with nothing on this machine, and again from its local copy. `PSS` is what the
process takes of the machine's memory after all calls, `its own` the part of it that is not the model's files. `first
page` asks for users whom nobody asked for, one after the other; `calls/s` are those of sixteen callers at once. The
other ways rank the same catalogue in one process without a server; recall is against an exact scan.

`RECSVC_SCALE_STEPS=1000x10000,...` sets the steps, videos x users; the full curve is
`1000x10000,10000x10000,100000x100000,1000000x1000000`.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np
from grpc import aio
from lightfm import LightFM

from benchmarks.machine import MEBIBYTE, cpu_seconds
from benchmarks.recsvc.call import on_core
from benchmarks.recsvc.retrieval import DIMENSIONS, PAGE, POPULARITY_WEIGHT, catalogue, compare, fitted, grown
from benchmarks.recsvc.server import recsvc_of
from benchmarks.report import Row
from deploy.local.child_process import Child
from deploy.local.program import ROOT, Service
from deploy.probe import serves
from modelstore.artefact import Catalogue, Manifest, Model, RowLists, write
from modelstore.id_map import IdMap
from modelstore.registry import Registry
from servicekit.storage.object_store import FileStore
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import ModelServiceStub, RecommendationServiceStub

_STEPS = os.environ.get("RECSVC_SCALE_STEPS", "1000x10000,20000x20000,100000x100000").split(",")
STEPS = [(int(videos), int(users)) for videos, users in (step.split("x") for step in _STEPS)]
CALLS = 400
"""Of each kind."""
CONCURRENT = 16
START_TIMEOUT_S = 300.0
SEEN = 20
AT = datetime(2025, 9, 2, tzinfo=UTC)


def run() -> dict[str, list[Row]]:
    """Measure every step."""
    faiss.omp_set_num_threads(1)
    fit = fitted()
    tables: dict[str, list[Row]] = {"recsvc": [_served(fit, videos, users) for videos, users in STEPS]}
    for videos in dict.fromkeys(videos for videos, _ in STEPS):
        tables[f"one query over {videos} videos x {DIMENSIONS}, no server"] = compare(fit, videos)
    return tables


def _served(fit: LightFM, videos: int, users: int) -> Row:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
        folder = Path(name)
        size = _publish(fit, folder, videos, users)
        row: dict[str, float | str] = {"videos": videos, "users": users, "files MiB": round(size / MEBIBYTE)}
        with _recsvc(folder, cores[0]) as (_, seconds):
            row["first start s"] = round(seconds, 1)
        with _recsvc(folder, cores[0]) as (service, seconds):
            row["start s"] = round(seconds, 1)
            os.sched_setaffinity(0, {cores[-1]})
            try:
                pid = service.child.pid if service.child else 0
                row |= asyncio.run(_called(service.address, pid, users))
            finally:
                os.sched_setaffinity(0, cores)
            row |= _memory(pid)
    return row


async def _called(address: str, pid: int, users: int) -> dict[str, float | str]:
    async with aio.insecure_channel(address) as channel:
        stub, models = RecommendationServiceStub(channel), ModelServiceStub(channel)
        found = (await models.GetModel(pb.GetModelRequest(), timeout=10)).model
        # Every user of the run once, spread over all of them.
        names = [f"u{number}" for number in np.linspace(0, users - 1, 3 * CALLS, dtype=np.int64).tolist()]
        alone, together, known = names[::3], names[1::3], names[2::3]
        times: list[float] = []

        async def ask(users: Sequence[str]) -> None:
            for user_id in users:
                began = time.perf_counter()
                page = await stub.Recommend(pb.RecommendRequest(user_id=user_id, page_size=PAGE), timeout=30)
                times.append(time.perf_counter() - began)
                if len(page.videos) != PAGE:
                    raise AssertionError(f"{user_id} got {len(page.videos)} videos")

        await ask(known)
        times.clear()
        await ask(alone)
        first = {"first page p50 ms": _ms(times, 50), "p99 ms": _ms(times, 99)}
        began, spent = time.perf_counter(), cpu_seconds(pid)
        await asyncio.gather(*[ask(together[start::CONCURRENT]) for start in range(CONCURRENT)])
        seconds, cpu = time.perf_counter() - began, cpu_seconds(pid) - spent
        times.clear()
        await ask(known)
    return {
        "recall@20": round(found.metrics["retrieval.recall@20"], 4),
        **first,
        "first pages, calls/s": round(CALLS / seconds),
        "CPU us": round(cpu / CALLS * 1e6),
        "known user p50 ms": _ms(times, 50),
    }


def _ms(times: list[float], q: float) -> float:
    return round(1000 * float(np.percentile(times, q, method="higher")), 2)


def _memory(pid: int) -> dict[str, float | str]:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    sizes = {name: int(size) // 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return {"RSS MiB": sizes["Rss"], "PSS MiB": sizes["Pss"], "its own MiB": sizes["Pss_Anon"]}


def _publish(fit: LightFM, folder: Path, videos: int, users: int) -> int:
    """Publish a model of this size, make it live, and return its bytes."""
    model = _model(fit, videos, users)
    registry, written = Registry(FileStore(folder / "models")), folder / "written"
    manifest = write(model, written)
    registry.publish(written, manifest)
    registry.activate(manifest.version, at=AT)
    return sum(entry.size for entry in manifest.files.values())


def _model(fit: LightFM, videos: int, users: int) -> Model:
    rng = np.random.default_rng(2)
    factors, biases, popularity = catalogue(fit, videos)
    step = videos // SEEN
    seen = np.arange(SEEN) * step + rng.integers(0, step, (users, SEEN))
    return Model(
        manifest=Manifest(
            version="20250902-1",
            algorithm="lightfm-warp",
            trained_at=AT,
            data_until=AT,
            interaction_count=users * SEEN,
            user_count=users,
            video_count=videos,
            dimensions=DIMENSIONS,
            popularity_weight=POPULARITY_WEIGHT,
        ),
        users=IdMap.build(f"u{number}" for number in range(users)),
        videos=IdMap.build(f"v{number}" for number in range(videos)),
        user_factors=grown(fit.user_embeddings, users, rng),
        user_biases=np.zeros(users, np.float32),
        video_factors=factors,
        video_biases=biases,
        popularity=popularity,
        seen=RowLists(np.arange(users + 1, dtype=np.int64) * SEEN, seen.astype(np.int32).ravel()),
        catalogue=Catalogue(
            authors=IdMap.build(["a0"]),
            author_rows=np.zeros(videos, np.int32),
            tags=IdMap.build(f"t{number}" for number in range(10)),
            tag_rows=RowLists(np.arange(videos + 1, dtype=np.int64), rng.integers(0, 10, videos, dtype=np.int32)),
            durations_ms=np.full(videos, 20_000, np.int64),
            published_at_ms=np.full(videos, -1, np.int64),
        ),
    )


@contextmanager
def _recsvc(folder: Path, core: int) -> Iterator[tuple[Service, float]]:
    """Run the server on one core, and measure the time until it served."""
    service = recsvc_of(folder, RECSVC_PRECOMPUTED_USERS="0", LOG_LEVEL="warning")
    began = time.perf_counter()
    with on_core(core):
        command = [sys.executable, "-m", "recsvc"]
        service.child = Child.start("recsvc", command, log=service.log, env=service.env, cwd=ROOT)
    try:
        service.child.wait_until(lambda: serves(service.address), timeout_s=START_TIMEOUT_S, what="did not serve")
        yield service, time.perf_counter() - began
    finally:
        service.stop()
