"""Tests the written model in a server process before any other server loads it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from modelstore.artefact import Model, read
from modelstore.id_map import UNKNOWN
from retrain.errors import Reason, RunError
from servicekit.process.ports import free_port
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import ModelServiceStub, RecommendationServiceStub

CANARIES: Final = 20
"""Known users who are asked for."""
STRANGER: Final = "smoke-test: a user whom nobody knows"
ROUNDS: Final = 5
"""Pages asked for each of them."""
PAGE_SIZE: Final = 20
MIN_OVERLAP: Final = 0.9
"""Of a page with the exact one: large catalogues are searched by an approximate index."""
MAX_P95_MS: Final = 100.0
START_S: Final = 120.0
POLL_S: Final = 1.0
"""Between two looks whether it has ended instead."""
LOAD_S: Final = 120.0
CALL_S: Final = 10.0
STOP_S: Final = 10.0
STORE, CACHE = FOLDERS = ("store", "cache")
OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    # The first attempt comes before the server listens; by default the second one follows after a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
)

ROOT: Final = Path(__file__).parents[2]
EXEC_WITH_PARENT: Final = ROOT / "servicekit" / "process" / "exec_with_parent.py"
KEPT: Final = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")

Page: TypeAlias = list[tuple[str, float]]
"""Videos and scores, best first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoke:
    """The results of the smoke test."""

    users: int
    calls: int
    live_s: float
    """From the files' having been read until the model was live."""
    p50_ms: float
    p95_ms: float


class SmokeServer:
    """A server process on a port of this machine, which is given a model once one is written.

    It may start while the model is still in training. Where the kernel can tell it, it ends with the thread that made
    it.

    Args:
        scratch: An empty folder that stands for a store.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._log = scratch, scratch / "recsvc.log"
        for name in FOLDERS:
            (scratch / name).mkdir(parents=True)
        self._start()

    def test(self, artefact: Path) -> Smoke:
        """Serve a written model and check its pages.

        Args:
            artefact: The model's folder.

        Raises:
            RunError: The server does not start, or does not serve the model, or a page is not what the model says,
                or pages are slow.
        """
        model = read(artefact)
        if self._process.poll() is not None:  # somebody has ended it meanwhile, or memory ran out: training takes long
            self._start()
        begin = time.monotonic()
        with closing(grpc.insecure_channel(self._address, OPTIONS)) as channel:
            self._wait_until_started(channel)
            self._activate(artefact, model.manifest.version, channel)
            live_s = time.monotonic() - begin
            latencies = _ask(model, RecommendationServiceStub(channel))
        # A model that is slow to serve is so each time; a busy machine is not.
        quickest = np.quantile(latencies, 0.95, axis=1).min()
        if quickest > MAX_P95_MS:
            raise RunError(
                Reason.SMOKE,
                f"pages take {quickest:.1f} ms at the 95th percentile in the quickest of {ROUNDS} rounds, "
                f"more than {MAX_P95_MS:.0f}",
            )
        p50, p95 = np.quantile(latencies, (0.5, 0.95))
        return Smoke(
            users=latencies.shape[1], calls=latencies.size, live_s=live_s, p50_ms=float(p50), p95_ms=float(p95)
        )

    def close(self) -> None:
        """End the server process."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(EXEC_WITH_PARENT), str(os.getpid()), f"{signal.SIGTERM:d}",
                 sys.executable, "-m", "recsvc"],
                cwd=ROOT,
                env=_environment(self._scratch, self._address),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )  # fmt: skip

    def _wait_until_started(self, channel: grpc.Channel) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(grpc.RpcError):
                _health(channel, timeout_s=POLL_S)
                return
        raise self._failure(f"did not start within {START_S:.0f} s")

    def _activate(self, artefact: Path, version: str, channel: grpc.Channel) -> None:
        for name in FOLDERS:
            (self._scratch / name / version).symlink_to(artefact.absolute())
        try:
            ModelServiceStub(channel).ActivateModel(pb.ActivateModelRequest(version=version), timeout=LOAD_S)
            status = _health(channel, timeout_s=CALL_S)
        except grpc.RpcError as error:
            with suppress(subprocess.TimeoutExpired):  # a server that crashes has lost its connections first
                self._process.wait(1.0)
            raise self._failure(f"does not take it: {_words(error)}") from None
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise self._failure("has it, but its health says otherwise")

    def _failure(self, what: str) -> RunError:
        """Return the error of a server, with its last words."""
        status = self._process.poll()
        found = what if status is None else f"ended with status {status}"
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        return RunError(Reason.SMOKE, f"the server of the new model {found}; its last words: {last or 'none'}")


def _ask(model: Model, stub: RecommendationServiceStub) -> NDArray[np.float64]:
    """Return the latency of each page in milliseconds, (rounds, users); RunError for the first wrong page."""
    rows = np.unique(np.linspace(0, len(model.users) - 1, CANARIES).astype(np.int64))
    canaries = [*model.users.ids(rows[rows >= 0]), STRANGER]
    latencies = []
    for number in range(ROUNDS):
        for user in canaries:
            begin = time.monotonic()
            page = _page(model, stub, user)
            latencies.append(1000 * (time.monotonic() - begin))
            if number == 0:
                _check(model, user, page)
    return np.reshape(latencies, (ROUNDS, -1))


def _page(model: Model, stub: RecommendationServiceStub, user: str) -> Page:
    try:
        reply = stub.Recommend(pb.RecommendRequest(user_id=user, page_size=PAGE_SIZE), timeout=CALL_S)
    except grpc.RpcError as error:
        raise RunError(Reason.SMOKE, f"no page for user {user!r}: {_words(error)}") from None
    if reply.model_version != model.manifest.version:
        raise RunError(Reason.SMOKE, f"the server has model {reply.model_version!r}")
    return [(video.video_id, video.score) for video in reply.videos]


def _check(model: Model, user: str, page: Page) -> None:
    scores = _scores(model, user)
    best = np.argsort(-scores, kind="stable")[:PAGE_SIZE]
    best = best[np.isfinite(scores[best])]
    rows = model.videos.rows([video for video, _ in page])
    if len(page) != len(best) or UNKNOWN in rows:
        raise RunError(Reason.SMOKE, f"user {user!r} gets {len(page)} videos instead of {len(best)}")
    told = np.array([score for _, score in page])
    if not np.allclose(told, scores[rows], rtol=1e-3, atol=1e-3):
        raise RunError(Reason.SMOKE, f"user {user!r} gets other scores than the model gives")
    found = np.mean(scores[rows] >= scores[best[-1]] - 1e-3) if len(best) else 1.0
    if found < MIN_OVERLAP:
        raise RunError(Reason.SMOKE, f"user {user!r} gets {found:.0%} of the best videos")


def _scores(model: Model, user: str) -> NDArray[np.float32]:
    """Return the scores that rank a user's page, (V,), minus infinity for seen videos."""
    row = model.users.row(user)
    if row == UNKNOWN:
        return model.video_biases + model.prior()
    scores = model.lightfm_scores(row) + model.prior()
    scores[model.seen[row]] = -np.inf
    return scores


def _health(channel: grpc.Channel, *, timeout_s: float) -> int:
    check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
    status: int = check(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True).status
    return status


def _environment(scratch: Path, address: str) -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "RECSVC_LISTEN": address,
        "RECSVC_WORKERS": "1",
        "RECSVC_DRAIN_GRACE_S": "0",
        "MODEL_STORE_URL": (scratch / STORE).absolute().as_uri(),
        "MODEL_CACHE_DIR": str(scratch / CACHE),
        "LOG_LEVEL": "warning",
    }


def _words(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"
