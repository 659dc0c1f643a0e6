"""Videos acknowledged a second: new ones, changed ones, and the same again, by calls and by one stream.

Real Postgres with fsync and the best Kafka there is on the same machine; the bridge is kept to one core.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from grpc import aio

from benchmarks import knob
from benchmarks.catalogue.calls import stub, video
from benchmarks.ingestion.stack import running_peers
from benchmarks.machine import cpu_seconds
from benchmarks.report import Row
from videowindow.feed.v1 import catalogue_pb2 as pb

VIDEOS = knob.whole("CATALOGUE_VIDEOS", 100_000)
BATCH = 1_000
CALLERS = 2


def run() -> dict[str, list[Row]]:
    """Return the table."""
    with running_peers() as peers:
        return {f"Upserts, {peers.title}": asyncio.run(_measure(peers.bridge.address, peers.pid))}


async def _measure(address: str, pid: int) -> list[Row]:
    rows: list[Row] = []
    async with aio.insecure_channel(address) as channel:
        catalogue = stub(channel)
        for name, version in (("new", 0), ("changed", 1), ("the same again", 1)):
            batches = [_batch(start, version) for start in range(0, VIDEOS, BATCH)]
            spent, began = cpu_seconds(pid), time.perf_counter()
            left = iter(batches)

            async def caller(left: "object" = left) -> int:
                stored = 0
                for request in left:  # type: ignore[attr-defined]  # all callers share it
                    reply = await catalogue.UpsertVideos(request, timeout=60)
                    stored += sum(one.HasField("stored") for one in reply.results)
                return stored

            stored = sum(await asyncio.gather(*[caller() for _ in range(CALLERS)]))
            rows.append(_row(f"{name}, {CALLERS} callers", stored, began, cpu_seconds(pid) - spent))
        batches = [_batch(start, 2) for start in range(0, VIDEOS, BATCH)]

        async def requests() -> AsyncIterator[pb.ImportVideosRequest]:
            for one in batches:
                yield pb.ImportVideosRequest(videos=one.videos)

        spent, began = cpu_seconds(pid), time.perf_counter()
        summary = await catalogue.ImportVideos(requests(), timeout=600)
        rows.append(_row("changed, one stream", summary.updated, began, cpu_seconds(pid) - spent))
    return rows


def _batch(start: int, version: int) -> pb.UpsertVideosRequest:
    return pb.UpsertVideosRequest(videos=[video(number, version=version) for number in range(start, start + BATCH)])


def _row(name: str, stored: int, began: float, spent: float) -> Row:
    took = time.perf_counter() - began
    return {
        "videos": name,
        "acknowledged": stored,
        "acknowledged/s": round(stored / took),
        "CPU µs of the bridge each": round(1e6 * spent / stored) if stored else "",
    }
