"""Measures worker processes: calls a second and memory with one and with two of them on one port.

Plain calls cost the caller as much as the server, and both share the machine's cores; calls that fold the user in and
rank anew are the server's work. Memory is the processes' proportional share (PSS), in which a page that two processes
map counts half for each: the model's files are there once, what Python holds is there once for each worker.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from grpc import aio

from benchmarks import knob
from benchmarks.feed.fault_proxy import SERVICE
from benchmarks.feed.model import publish_random_model
from benchmarks.machine import MEBIBYTE
from benchmarks.recsvc.server import recsvc_of, running
from benchmarks.report import Row
from deploy.local.program import Service
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

USERS, VIDEOS, DIMENSIONS, PAGE = 200_000, 20_000, 64, 20
SECONDS = knob.number("RECSVC_WORKERS_SECONDS", 6.0)
CONNECTIONS = 8
CONCURRENT = 4
"""Calls at once on each connection."""
WORKERS = (1, 2)


def run() -> dict[str, list[Row]]:
    """Measure with each number of workers."""
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as name:
        folder = Path(name)
        publish_random_model(folder / "models", "20250902-1", users=USERS, videos=VIDEOS, dimensions=DIMENSIONS)
        size = sum(path.stat().st_size for path in (folder / "models" / "20250902-1").iterdir()) // MEBIBYTE
        rows = [_measured(folder, workers) for workers in WORKERS]
    return {f"{VIDEOS} videos, {USERS} users, {DIMENSIONS} factors: model files of {size} MiB": rows}


def _measured(folder: Path, workers: int) -> Row:
    with _recsvc(folder, workers) as service:
        plain = asyncio.run(_rate(service.address, _plain))
        folded = asyncio.run(_rate(service.address, _folded))
        pids = _family(service.child.pid if service.child else 0)
        shares = [_memory(pid) for pid in pids]
    return {
        "workers": workers,
        "plain calls/s": round(plain),
        "folding calls/s": round(folded),
        "processes": len(pids),
        "PSS MiB": round(sum(share for share, _ in shares)),
        "RSS MiB": round(sum(resident for _, resident in shares)),
    }


def _plain(number: int) -> bytes:
    return pb.RecommendRequest(user_id=f"u{number * 7919 % USERS}", page_size=PAGE).SerializeToString()


def _folded(number: int) -> bytes:
    liked = [
        pb.Interaction(video_id=f"v{(number * 31 + place) % VIDEOS}", interaction_type=pb.INTERACTION_TYPE_LIKE)
        for place in range(5)
    ]
    request = pb.RecommendRequest(user_id=f"u{number * 7919 % USERS}", page_size=PAGE, recent_interactions=liked)
    return request.SerializeToString()


async def _rate(address: str, request: Callable[[int], bytes]) -> float:
    """Return the calls a second of callers who never pause, over connections that the workers share."""
    requests = [request(number) for number in range(5_000)]
    done = 0
    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [await stack.enter_async_context(aio.insecure_channel(address, options)) for _ in range(CONNECTIONS)]
        until = time.perf_counter() + SECONDS

        async def call_on(channel: aio.Channel, number: int) -> None:
            nonlocal done
            recommend: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Recommend")
            while time.perf_counter() < until:
                number = (number + 1) % len(requests)
                await recommend(requests[number], timeout=5)
                done += 1

        callers = [call_on(channel, 97 * place) for place, channel in enumerate(channels * CONCURRENT)]
        await asyncio.gather(*callers)
    return done / SECONDS


def _family(pid: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [pid, *map(int, children)]


def _memory(pid: int) -> tuple[float, float]:
    """Return a process's proportional share of memory and its resident memory in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kibibytes["Pss"] / 1024, kibibytes["Rss"] / 1024


@contextmanager
def _recsvc(folder: Path, workers: int) -> Iterator[Service]:
    """Run recsvc with some workers until the block ends; yield once all of them serve."""
    service = recsvc_of(
        folder, name=f"recsvc-{workers}", RECSVC_WORKERS=str(workers), RECSVC_PRECOMPUTED_USERS=str(20_000)
    )
    with running(service):
        if not service.child:
            raise RuntimeError("not started")
        service.child.wait_until(
            lambda: service.log.read_bytes().count(b"precomputation.done") == workers,
            timeout_s=120,
            what="not all are ready",
        )
        yield service
