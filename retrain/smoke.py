"""The smoke test: a server in a process of its own serves the written model before anybody else's does."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from recsvc.artefact import Model, read
from recsvc.idmap import UNKNOWN
from recsvc.registry import Registry
from retrain.failure import Reason, RunFailure
from servicekit.objectstore import FileStore
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import RecommendationServiceStub

CANARIES: Final = 20
"""Known viewers who are asked for."""
STRANGER: Final = "smoke-test: a viewer whom nobody knows"
ROUNDS: Final = 10
"""Pages asked for each of them."""
PAGE_SIZE: Final = 20
LEAST_OVERLAP: Final = 0.9
"""Of a page with the exact one: large catalogues are searched by an approximate index."""
MOST_P95_MS: Final = 100.0
START_S: Final = 120.0
CALL_S: Final = 10.0
STOP_S: Final = 10.0
OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    # The first attempt comes before the server listens; by default the second one follows after a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
)

ROOT: Final = Path(__file__).parents[1]
EXEC_WITH_PARENT: Final = ROOT / "servicekit" / "exec_with_parent.py"
KEPT: Final = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")

Page: TypeAlias = list[tuple[str, float]]
"""Videos and scores, best first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoke:
    """What the server did."""

    viewers: int
    calls: int
    start_s: float
    """Until it served."""
    p50_ms: float
    p95_ms: float


def smoke(artefact: Path, scratch: Path, *, now: datetime) -> Smoke:
    """Serve a written model on a port of this machine and look at the pages.

    Args:
        artefact: The model's folder.
        scratch: An empty folder that stands for a store.
        now: The time (UTC).

    Raises:
        RunFailure: The server does not start, or a page is not what the model says, or pages are slow.
    """
    model = read(artefact)
    version = model.manifest.version
    for name in ("store", "cache"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / version).symlink_to(artefact.absolute())
    Registry(FileStore(scratch / "store")).activate(version, at=now)
    begin = time.monotonic()
    with _server(scratch) as channel:
        start_s = time.monotonic() - begin
        latencies = _ask(model, RecommendationServiceStub(channel))
    # A model that is slow to serve is so each time; a busy machine is not.
    quickest = np.quantile(latencies, 0.95, axis=1).min()
    if quickest > MOST_P95_MS:
        raise RunFailure(
            Reason.SMOKE,
            f"pages take {quickest:.1f} ms at the 95th percentile in the quickest of {ROUNDS} rounds, "
            f"more than {MOST_P95_MS:.0f}",
        )
    p50, p95 = np.quantile(latencies, (0.5, 0.95))
    return Smoke(
        viewers=latencies.shape[1], calls=latencies.size, start_s=start_s, p50_ms=float(p50), p95_ms=float(p95)
    )


def _ask(model: Model, stub: RecommendationServiceStub) -> NDArray[np.float64]:
    """Return how many milliseconds each page took, (rounds, viewers); RunFailure for the first one that is wrong."""
    rows = np.unique(np.linspace(0, len(model.users) - 1, CANARIES).astype(np.int64))
    canaries = [*model.users.ids(rows[rows >= 0]), STRANGER]
    latencies = []
    for number in range(ROUNDS):
        for viewer in canaries:
            begin = time.monotonic()
            page = _page(model, stub, viewer)
            latencies.append(1000 * (time.monotonic() - begin))
            if number == 0:
                _check(model, viewer, page)
    return np.reshape(latencies, (ROUNDS, -1))


def _page(model: Model, stub: RecommendationServiceStub, viewer: str) -> Page:
    try:
        reply = stub.Recommend(pb.RecommendRequest(user_id=viewer, page_size=PAGE_SIZE), timeout=CALL_S)
    except grpc.RpcError as error:
        raise RunFailure(Reason.SMOKE, f"no page for viewer {viewer!r}: {_words(error)}") from None
    if reply.model_version != model.manifest.version:
        raise RunFailure(Reason.SMOKE, f"the server has model {reply.model_version!r}")
    return [(video.video_id, video.score) for video in reply.videos]


def _check(model: Model, viewer: str, page: Page) -> None:
    scores = _scores(model, viewer)
    best = np.argsort(-scores, kind="stable")[:PAGE_SIZE]
    best = best[np.isfinite(scores[best])]
    rows = model.videos.rows([video for video, _ in page])
    if len(page) != len(best) or UNKNOWN in rows:
        raise RunFailure(Reason.SMOKE, f"viewer {viewer!r} gets {len(page)} videos instead of {len(best)}")
    told = np.array([score for _, score in page])
    if not np.allclose(told, scores[rows], rtol=1e-3, atol=1e-3):
        raise RunFailure(Reason.SMOKE, f"viewer {viewer!r} gets other scores than the model gives")
    found = np.mean(scores[rows] >= scores[best[-1]] - 1e-3) if len(best) else 1.0
    if found < LEAST_OVERLAP:
        raise RunFailure(Reason.SMOKE, f"viewer {viewer!r} gets {found:.0%} of the best videos")


def _scores(model: Model, viewer: str) -> NDArray[np.float32]:
    """Return what a viewer's page is to be ranked by, (V,), minus infinity for what was seen."""
    row = model.users.row(viewer)
    if row == UNKNOWN:
        return model.video_biases + model.prior()
    scores = model.lightfm_scores(row) + model.prior()
    scores[model.seen[row]] = -np.inf
    return scores


@contextmanager
def _server(scratch: Path) -> Iterator[grpc.Channel]:
    """Yield a channel to the server of a store as soon as it serves, and end the server afterwards."""
    address = f"127.0.0.1:{_free_port()}"
    log = scratch / "recsvc.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-IS", str(EXEC_WITH_PARENT), str(os.getpid()), f"{signal.SIGTERM:d}",
             sys.executable, "-m", "recsvc"],
            cwd=ROOT, env=_environment(scratch, address), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        with closing(grpc.insecure_channel(address, OPTIONS)) as channel:
            _wait_until_serving(channel, process, log)
            yield channel
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(scratch: Path, address: str) -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "RECSVC_LISTEN": address,
        "RECSVC_WORKERS": "1",
        "RECSVC_DRAIN_GRACE_S": "0",
        "MODEL_STORE_URL": (scratch / "store").absolute().as_uri(),
        "MODEL_CACHE_DIR": str(scratch / "cache"),
        "LOG_LEVEL": "warning",
    }


def _wait_until_serving(channel: grpc.Channel, process: "subprocess.Popen[bytes]", log: Path) -> None:
    check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            reply = check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
        except grpc.RpcError:
            continue
        if reply.status == health_pb2.HealthCheckResponse.SERVING:
            return
        time.sleep(0.05)
    what = f"did not serve within {START_S:.0f} s" if process.poll() is None else "ended"
    last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    raise RunFailure(Reason.SMOKE, f"the server of the new model {what}: {last or 'it left no message'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _words(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"
