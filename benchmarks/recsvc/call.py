"""Compares a `Recommend` with an empty RPC: processor time a call, and calls a second on one core.

All servers stand on one core, the caller on another; they take turns in short stretches. The empty server is gRPC's
thread-pool server, and its reply has as many bytes; `empty RPC, direct` is one that answers as recsvc does, without
gRPC's Python layer. `messages alone` is gRPC's server with a handler that reads the request and builds the reply as
messages, and nothing else: the least of any handler that uses them. `first page`
asks for a user whom nobody asked for since the model went live, `known user` for one who comes back, `next page`
carries the token of the page before. All trained users' shortlists are prepared, as they are some time after a model
went live; `first page, unprepared` is measured on a server that prepares none.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from grpc import aio

from benchmarks import knob
from benchmarks.feed.fault_proxy import SERVICE
from benchmarks.feed.model import publish_random_model
from benchmarks.machine import cpu_seconds, recsvc_workers
from benchmarks.recsvc.server import recsvc_of, running
from benchmarks.report import Row
from deploy.local.program import ROOT
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

VIDEOS = 20_000
DIMENSIONS = 64
PAGE = 20
THREADS = 8
ROUNDS = knob.whole("RECSVC_CALL_ROUNDS", 8)
CALLS = 3_000
"""Calls of each kind in a round."""
CONCURRENT = 16
USERS = ROUNDS * CALLS + 1_000
"""Users of the model; the last thousand come back."""

EMPTY = "empty RPC"
DIRECT = "empty RPC, direct"
MESSAGES = "messages alone"
UNPREPARED = "first page, unprepared"


@dataclass(slots=True)
class Server:
    """A server, and the way to call it."""

    pid: int
    channel: aio.Channel
    spent_us: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)

    async def call(self, kind: str, requests: Sequence[bytes]) -> None:
        """Make the calls, several at a time, and record their cost."""
        recommend: aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{SERVICE}/Recommend")
        left = iter(requests)

        async def one_after_another() -> None:
            for request in left:
                await recommend(request, timeout=5)

        spent, began = cpu_seconds(self.pid), time.perf_counter()
        await asyncio.gather(*[one_after_another() for _ in range(CONCURRENT)])
        self.rates.setdefault(kind, []).append(len(requests) / (time.perf_counter() - began))
        self.spent_us.setdefault(kind, []).append((cpu_seconds(self.pid) - spent) / len(requests) * 1e6)


def run() -> dict[str, list[Row]]:
    """Run the comparison."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-call-") as name, ExitStack() as stack:
        folder = Path(name)
        publish_random_model(folder / "models", "20250902-1", users=USERS, videos=VIDEOS, dimensions=DIMENSIONS)
        recsvc = stack.enter_context(_recsvc(folder, cores[0], prepared=USERS))
        unprepared = stack.enter_context(_recsvc(folder, cores[0], prepared=0))
        reply = asyncio.run(_reply(recsvc[1]))
        (folder / "reply").write_bytes(reply.SerializeToString())
        kinds = ("bytes", "direct", "messages")
        peers = [stack.enter_context(_empty(folder / "reply", kind, cores[0])) for kind in kinds]
        os.sched_setaffinity(0, {cores[-1]})
        stack.callback(os.sched_setaffinity, 0, cores)
        rows = asyncio.run(_measure([recsvc, unprepared, *peers], reply))
    return {f"Recommend, {VIDEOS} videos x {DIMENSIONS}, page of {PAGE}, reply of {reply.ByteSize()} bytes": rows}


async def _measure(addresses: Sequence[tuple[int, str]], reply: pb.RecommendResponse) -> list[Row]:
    async with AsyncExitStack() as stack:
        servers = [
            Server(pid, await stack.enter_async_context(aio.insecure_channel(address))) for pid, address in addresses
        ]
        recsvc, other, peer, direct, messages = servers
        again = [_request(USERS - 1 - index % 1_000) for index in range(CALLS)]
        further = [_request(USERS - 1, reply.next_page_token)] * CALLS
        for server in servers:
            await server.call("warm up", again)
        for number in range(ROUNDS):
            new = [_request(number * CALLS + index) for index in range(CALLS)]
            await peer.call(EMPTY, new)
            await direct.call(DIRECT, new)
            await messages.call(MESSAGES, new)
            await recsvc.call("first page", new)
            await recsvc.call("known user", again)
            await recsvc.call("next page", further)
            await other.call(UNPREPARED, new)
    costs = {kind: spent for server in servers for kind, spent in server.spent_us.items()}
    rates = {kind: rate for server in servers for kind, rate in server.rates.items()}
    kinds = (EMPTY, DIRECT, MESSAGES, "first page", "known user", "next page", UNPREPARED)
    return [_row(kind, costs, rates) for kind in kinds]


def _row(kind: str, costs: dict[str, list[float]], rates: dict[str, list[float]]) -> Row:
    cost, rate = median(costs[kind]), median(rates[kind])
    return {
        "call": kind,
        "CPU µs/call": round(cost),
        "x empty CPU": round(cost / median(costs[EMPTY]), 2),
        "calls/s": round(rate),
        "x empty calls/s": round(rate / median(rates[EMPTY]), 2),
        "core busy": round(cost * rate / 1e6, 2),
    }


def _request(user: int, token: str = "") -> bytes:
    return pb.RecommendRequest(user_id=f"u{user}", page_size=PAGE, page_token=token).SerializeToString()


async def _reply(address: str) -> pb.RecommendResponse:
    async with aio.insecure_channel(address) as channel:
        recommend: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Recommend")
        return pb.RecommendResponse.FromString(await recommend(_request(USERS - 1), timeout=5))


@contextmanager
def _recsvc(folder: Path, core: int, *, prepared: int) -> Iterator[tuple[int, str]]:
    """Run recsvc on one core with precomputed lists of some users; yield its process and address."""
    service = recsvc_of(
        folder,
        name=f"recsvc-{prepared}",
        RECSVC_THREADS=str(THREADS),
        RECSVC_PRECOMPUTED_USERS=str(prepared),
        MODEL_CACHE_DIR=str(folder / f"cache-{prepared}"),
    )
    with ExitStack() as stack:
        with on_core(core):
            stack.enter_context(running(service))
        if not service.child:
            raise RuntimeError("not started")
        if prepared:
            service.child.wait_until(
                lambda: b"precomputation.done" in service.log.read_bytes(), timeout_s=120, what="no lists"
            )
        (pid,) = recsvc_workers(service.child.pid)
        yield pid, service.address


@contextmanager
def _empty(reply: Path, kind: str, core: int) -> Iterator[tuple[int, str]]:
    """Run an empty server on one core; yield its process and address."""
    command = [sys.executable, "-m", "benchmarks.recsvc.empty_server", str(reply), str(THREADS), kind]
    with on_core(core):
        # In a session of its own, as recsvc is: Linux shares a busy core out between sessions.
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield process.pid, f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pin the processes that the block starts to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
